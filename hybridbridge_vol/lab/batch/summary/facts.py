"""What the page knows of one image, made of its tables; the rows themselves are let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybridbridge_vol.lab.batch.summary.data import Cells, Image, Tables, number, text
from hybridbridge_vol.lab.batch.summary.findings import GRAVE, Finding, own_findings
from hybridbridge_vol.lab.batch.summary.listening import listening_ports
from hybridbridge_vol.lab.batch.summary.processes import is_kernel_thread, thread_family

STARTED_LAST = 8


@dataclass(frozen=True)
class Moments:
    """What the timeline shows; all in seconds since the epoch by the guest's clock. `booted` None: not
    known."""

    booted: float | None
    captured: float | None
    starts: tuple[float, ...] = ()
    """Of processes that are no kernel threads."""
    thread_starts: tuple[float, ...] = ()
    log: tuple[float, ...] = ()
    """Messages below `err`."""
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Facts:
    """One image. `names` are the sets that are compared between images, by what they are (`rarity.COMPARED`):
    each a name with one row that shows it. Counts and shares are None where their tool has no table."""

    image: Image
    tables: frozenset[str]
    problems: tuple[str, ...]
    findings: tuple[Finding, ...]
    names: dict[str, dict[str, Cells]]
    moments: Moments
    up: float | None
    memory: tuple[float, float, float] | None
    """Used, buffers and cache, free: in KiB."""
    cpu: tuple[float, float, float, float] | None
    """User, kernel, waiting for a disk or stolen, idle: in percent, of all CPUs since boot."""
    processes: int | None
    sockets: int | None
    modules: int | None
    started_last: tuple[Cells, ...]

    @property
    def counts(self) -> tuple[int | None, int | None, int | None]:
        """Processes, sockets, modules."""
        return self.processes, self.sockets, self.modules


def facts_of(image: Image, tables: Tables) -> Facts:
    """Everything that the page says of one image."""
    rows = tables.rows
    return Facts(
        image, frozenset(rows), tables.problems, tuple(own_findings(image, rows)), names_of(tables),
        moments_of(image, tables), _first(rows.get("uptime"), "UP"), memory_of(rows.get("free", ())),
        cpu_of(rows.get("mpstat", ())), _count(image, "ps", "tinyps"), _count(image, "netstat", "ss"), _count(image, "lsmod"),
        last_started(rows.get("ps", ())),
    )  # fmt: skip


def names_of(tables: Tables) -> dict[str, dict[str, Cells]]:
    """What can be compared with other images, of the tools that have a table."""
    rows = tables.rows
    found: dict[str, dict[str, Cells]] = {}
    if "ps" in rows:
        found["process"], found["thread"] = {}, {}
        for row in rows["ps"]:
            name = text(row, "COMM")
            if name and is_kernel_thread(row):
                found["thread"].setdefault(thread_family(name), row)
            elif name:
                found["process"].setdefault(name, row)
    if "lsmod" in rows:
        found["module"], found["taint"] = {}, {}
        for row in rows["lsmod"]:
            if text(row, "MODULE"):
                found["module"].setdefault(text(row, "MODULE"), row)
            for letter in text(row, "TAINTS"):
                found["taint"].setdefault(letter, row)
    ports = listening_ports(rows)
    if ports is not None:
        found["port"] = {}
        for row in ports:
            if row["PORT"] and not row["EPHEMERAL"]:
                found["port"].setdefault(f"{row['PROTO']}/{row['PORT']}", row)
    return found


def moments_of(image: Image, tables: Tables) -> Moments:
    """The times of one image. Only those between boot and freeze are kept: a guest can claim any others."""
    rows = tables.rows
    booted, now = _first(rows.get("uptime"), "BOOTED"), _first(rows.get("uptime"), "NOW")
    captured = image.captured if image.captured is not None else now
    if booted is None or captured is None or booted > captured:
        return Moments(None, captured)

    def within(tool: str, column: str, kept: Sequence[Cells]) -> tuple[float, ...]:
        # tables keep milliseconds, and a START counts clock ticks of 10 ms
        times = (number(row, column) for row in kept)
        return tuple(
            sorted(
                min(max(time, booted), captured)
                for time in times
                if time is not None and booted - 1 <= time <= captured + 1
            )
        )

    processes, log = rows.get("ps", []), rows.get("dmesg", [])
    return Moments(
        booted, captured,
        within("ps", "START", [row for row in processes if not is_kernel_thread(row)]),
        within("ps", "START", [row for row in processes if is_kernel_thread(row)]),
        within("dmesg", "WHEN", [row for row in log if text(row, "LEVEL") not in GRAVE]),
        within("dmesg", "WHEN", [row for row in log if text(row, "LEVEL") in GRAVE]),
    )  # fmt: skip


def memory_of(rows: Sequence[Cells]) -> tuple[float, float, float] | None:
    """The line `Mem` of `free`."""
    for row in rows:
        cells = [number(row, name) for name in ("USED", "BUFF/CACHE", "FREE")]
        if row.get("KIND") == "Mem" and all(cell is not None and cell >= 0 for cell in cells):
            return tuple(cells)  # type: ignore[return-value]
    return None


def cpu_of(rows: Sequence[Cells]) -> tuple[float, float, float, float] | None:
    """The line `all` of `mpstat`."""
    for row in rows:
        if row.get("CPU") == "all":
            parts = [
                sum(max(number(row, name) or 0.0, 0.0) for name in names)
                for names in (("%USR", "%NICE"), ("%SYS", "%IRQ", "%SOFT"), ("%IOWAIT", "%STEAL"), ("%IDLE",))
            ]
            return tuple(parts) if sum(parts) > 0 else None  # type: ignore[return-value]
    return None


def last_started(rows: Sequence[Cells]) -> tuple[Cells, ...]:
    """The processes (no kernel threads) that were started last, the last one first."""
    timed = [row for row in rows if number(row, "START") is not None and not is_kernel_thread(row)]
    timed.sort(key=lambda row: (number(row, "START") or 0.0, number(row, "PID") or 0), reverse=True)
    return tuple(timed[:STARTED_LAST])


def _first(rows: Sequence[Cells] | None, column: str) -> float | None:
    return number(rows[0], column) if rows else None


def _count(image: Image, *tools: str) -> int | None:
    """The rows of the first of the tools that answered."""
    for tool in tools:
        run = image.run(tool)
        if run is not None and run.status in ("ok", "partial"):
            return run.rows
    return None
