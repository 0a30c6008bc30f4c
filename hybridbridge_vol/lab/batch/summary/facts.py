"""What the page says about one image, computed from its tables; the rows themselves are not kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hybridbridge_vol.lab.batch.summary.data import Cells, Image, Tables, number, text
from hybridbridge_vol.lab.batch.summary.findings import Rows, own_findings
from hybridbridge_vol.lab.batch.summary.listening import listening_ports
from hybridbridge_vol.lab.batch.summary.processes import is_kernel_thread, thread_family
from hybridbridge_vol.lab.batch.summary.rules import ERROR_LEVELS, Finding

STARTED_LAST = 8
"""Processes that are listed as started last."""

Named = Literal["process", "thread", "module", "taint", "port"]
"""What is compared between images."""
Names = dict[str, Cells]
"""Names, each with one row that shows it."""


@dataclass(frozen=True)
class Moments:
    """What the timeline shows, in seconds since the epoch by the guest's clock. `booted` None: not known.
    `starts`: of processes that are not kernel threads; `log`: messages of the kernel log that are not errors,
    `errors`: those that are."""

    booted: float | None
    captured: float | None
    starts: tuple[float, ...] = ()
    thread_starts: tuple[float, ...] = ()
    log: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Facts:
    """One image. Counts and shares are None where their tool has no table.

    `up`: seconds since boot. `memory`: used, buffers and cache, free, in KiB. `cpu`: user, kernel, waiting
    for a disk or stolen, idle, in percent of all CPUs since boot. `started_last`: rows of ps.
    """

    image: Image
    tables: frozenset[str]
    problems: tuple[str, ...]
    findings: tuple[Finding, ...]
    names: dict[Named, Names]
    moments: Moments
    up: float | None
    memory: tuple[float, float, float] | None
    cpu: tuple[float, float, float, float] | None
    processes: int | None
    sockets: int | None
    modules: int | None
    started_last: tuple[Cells, ...]

    @property
    def counts(self) -> tuple[int | None, int | None, int | None]:
        """Processes, sockets, modules."""
        return self.processes, self.sockets, self.modules


def facts_of(image: Image, tables: Tables) -> Facts:
    """Everything that the page says about one image."""
    rows = tables.rows
    return Facts(
        image=image,
        tables=frozenset(rows),
        problems=tables.problems,
        findings=tuple(own_findings(image, rows)),
        names=names_of(rows),
        moments=moments_of(image, rows),
        up=_first(rows.get("uptime", ()), "UP"),
        memory=memory_of(rows.get("free", ())),
        cpu=cpu_of(rows.get("mpstat", ())),
        processes=_count(image, "ps", "tinyps"),
        sockets=_count(image, "netstat", "ss"),
        modules=_count(image, "lsmod"),
        started_last=last_started(rows.get("ps", ())),
    )


def names_of(tables: Rows) -> dict[Named, Names]:
    """What can be compared with other images, of the tools that have a table."""
    found: dict[Named, Names] = {}
    if "ps" in tables:
        found["process"], found["thread"] = _process_names(tables["ps"])
    if "lsmod" in tables:
        found["module"], found["taint"] = _module_names(tables["lsmod"])
    ports = listening_ports(tables)
    if ports is not None:
        found["port"] = {}
        for port in ports:
            if port.port and not port.is_ephemeral:
                found["port"].setdefault(f"{port.proto}/{port.port}", port.row())
    return found


def _process_names(rows: Sequence[Cells]) -> tuple[Names, Names]:
    processes: Names = {}
    threads: Names = {}
    for row in rows:
        name = text(row, "COMM")
        if name and is_kernel_thread(row):
            threads.setdefault(thread_family(name), row)
        elif name:
            processes.setdefault(name, row)
    return processes, threads


def _module_names(rows: Sequence[Cells]) -> tuple[Names, Names]:
    modules: Names = {}
    taints: Names = {}
    for row in rows:
        if text(row, "MODULE"):
            modules.setdefault(text(row, "MODULE"), row)
        for letter in text(row, "TAINTS"):
            taints.setdefault(letter, row)
    return modules, taints


def moments_of(image: Image, tables: Rows) -> Moments:
    """The times of one image. Only those between boot and capture are kept: a guest can claim any others."""
    booted, now = (_first(tables.get("uptime", ()), column) for column in ("BOOTED", "NOW"))
    captured = image.captured if image.captured is not None else now
    if booted is None or captured is None or booted > captured:
        return Moments(None, captured)
    processes, log = tables.get("ps", ()), tables.get("dmesg", ())
    users, threads = _split(processes, is_kernel_thread)
    messages, errors = _split(log, lambda row: text(row, "LEVEL") in ERROR_LEVELS)
    return Moments(
        booted,
        captured,
        starts=_within(booted, captured, users, "START"),
        thread_starts=_within(booted, captured, threads, "START"),
        log=_within(booted, captured, messages, "WHEN"),
        errors=_within(booted, captured, errors, "WHEN"),
    )


def _split(rows: Sequence[Cells], holds: Callable[[Cells], bool]) -> tuple[Sequence[Cells], Sequence[Cells]]:
    """The rows for which it does not hold, and those for which it does."""
    return [row for row in rows if not holds(row)], [row for row in rows if holds(row)]


def _within(first: float, last: float, rows: Sequence[Cells], column: str) -> tuple[float, ...]:
    """The times of a column, in order, that lie in the span. By a second they may miss it: tables keep
    milliseconds, and a START counts clock ticks of 10 ms."""
    times = (number(row, column) for row in rows)
    return tuple(
        sorted(
            min(max(time, first), last)
            for time in times
            if time is not None and first - 1 <= time <= last + 1
        )
    )


def memory_of(rows: Sequence[Cells]) -> tuple[float, float, float] | None:
    """The line `Mem` of `free`: used, buffers and cache, free."""
    for row in rows:
        used, cache, free = (number(row, name) for name in ("USED", "BUFF/CACHE", "FREE"))
        if row.get("KIND") == "Mem" and used is not None and cache is not None and free is not None:
            return (used, cache, free) if min(used, cache, free) >= 0 else None
    return None


def cpu_of(rows: Sequence[Cells]) -> tuple[float, float, float, float] | None:
    """The line `all` of `mpstat`: user, kernel, waiting or stolen, idle."""

    def share(row: Cells, *names: str) -> float:
        return sum(max(number(row, name) or 0.0, 0.0) for name in names)

    for row in rows:
        if row.get("CPU") == "all":
            user, kernel = share(row, "%USR", "%NICE"), share(row, "%SYS", "%IRQ", "%SOFT")
            wait, idle = share(row, "%IOWAIT", "%STEAL"), share(row, "%IDLE")
            return (user, kernel, wait, idle) if user + kernel + wait + idle > 0 else None
    return None


def last_started(rows: Sequence[Cells]) -> tuple[Cells, ...]:
    """The processes (not kernel threads) that were started last, the last one first."""
    timed = [row for row in rows if number(row, "START") is not None and not is_kernel_thread(row)]
    timed.sort(key=lambda row: (number(row, "START") or 0.0, number(row, "PID") or 0), reverse=True)
    return tuple(timed[:STARTED_LAST])


def _first(rows: Sequence[Cells], column: str) -> float | None:
    return number(rows[0], column) if rows else None


def _count(image: Image, *tools: str) -> int | None:
    """The number of rows of the first of the tools that answered."""
    for tool in tools:
        run = image.run(tool)
        if run is not None and run.status in ("ok", "partial"):
            return run.rows
    return None
