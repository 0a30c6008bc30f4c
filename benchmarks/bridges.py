"""SLOW-BRIDGE against FAST-BRIDGE, and FAST-BRIDGE against the engine's limit. `make bench` runs this.

The limit is the same trusted kernel answering for itself (`benchmarks.alone`).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from unicorn.unicorn_const import UC_HOOK_CODE

from benchmarks import results
from benchmarks.alone import open_alone
from benchmarks.results import number
from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.train import train
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Sample, Spec, make_sample

SPEC = Spec("6.1-cloud", seed=21)
RUNS = 7
SLICES, SLICE_SECONDS = 3, 0.02
"""In every run a variant has so many turns at a work; a shorter call is repeated for so long, and its mean
counts."""
COUNT_SECONDS = 1.0
"""Long enough to see the allocators' dearer calls too, which come once in a while."""
ARGUMENTS: Mapping[str, Mapping[str, object]] = {
    "cat": {"path": ("/proc/net/tcp",)},
    "dir": {"path": "/proc"},
}
"""What the tools that want an argument are given; one that is not named here is left out."""
NOT_ALONE = ("check", "hidden", "ip", "iostat")
"""They ask for more than files, of a snapshot, or for a file (/proc/diskstats) that comes after where the
trusted kernel stands."""
THREADS = 30
"""Kernel threads that both sides are asked for; the trusted kernel alone has a few more."""
READS = 50

Call = Callable[[], list[object]]


class Work(NamedTuple):
    """Something to be timed: `prepare` gives the call for a session; `same` if the work is alike on any
    kernel."""

    name: str
    prepare: Callable[[Session], Call]
    same: bool


class Counted(NamedTuple):
    """What one warm call does: rows (or files) it gives, system calls, guest instructions."""

    rows: int
    calls: int
    instructions: int


class Timed(NamedTuple):
    """Seconds of one warm call: all of it, and those inside the emulator."""

    whole: float
    emulated: float


Times = Mapping[tuple[str, str], Timed]
"""By the name of a work and of a variant."""

LIMIT_NOTE = (
    "The limit: the trusted kernel alone, with its own /proc, without a snapshot and without redirection,",
    "asked by the same code. It has fewer processes and no modules or sockets. So whole times can be",
    "compared only where the work is the same on both; the time inside the emulator per guest instruction",
    "can be compared everywhere. Where a call has few instructions it says little: entering the emulator",
    "costs something too, which is nearly all of `uname` and much of an empty `lsmod`. The rest of a call",
    "is Python.",
)


def main() -> None:
    """Make the image, train, measure, write the tables."""
    sample = make_sample(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        enroll(store, sample.kernel_package)
        train(sample.dump, store.root)
        lines = results.circumstances(
            f"Kernel {sample.kernel_package.name}; an image of 256 MiB, {len(sample.truth.processes)} "
            "processes.",
            f"Medians of {RUNS} runs, each in sessions of its own, in which the variants take {SLICES}",
            "turns. Warm: after a first call in the same session; repeated for "
            f"{1000 * SLICE_SECONDS:.0f} ms where it is shorter.",
            "The machine is shared and noisy: the ratios count.",
        )
        results.write("SLOW-BRIDGE and FAST-BRIDGE", [*lines, *compare(sample, store)])


def compare(sample: Sample, store: Store) -> list[str]:
    """Both tables. The image's kernel must be in the store and its memo trained."""
    works = [*tool_works(), *same_works()]
    opened: dict[str, Callable[[], Session]] = {
        "slow": partial(open_session, sample.dump, store.root, mode=Mode.SLOW, processors=1),
        "fast": partial(open_session, sample.dump, store.root, mode=Mode.FAST, processors=1),
        "limit": partial(open_alone, store.kernels()[0]),
    }
    with open_session(sample.dump, store.root) as session:  # warm look-ups take ways that training does not
        for work in works:
            call = work.prepare(session)
            call(), call()
    with opened["slow"]() as session:
        here = {work.name: counted(session, work.prepare(session), under_taint(session)) for work in works}
    with opened["limit"]() as session:
        instructions = by_hook(session)
        alone = {work.name: counted(session, work.prepare(session), instructions) for work in works}
    times = side_by_side(works, opened)
    return [*slow_table(works, here, times), *limit_table(works, here, alone, times)]


# --- what is done -----------------------------------------------------------------------------------------


def tool_works() -> list[Work]:
    """Every tool that the trusted kernel alone can answer, by itself."""
    works = []
    for name in (name for name in tools.NAMES if name not in NOT_ALONE):
        given = ARGUMENTS.get(name, {})
        if all(option.name in given for option in tools.load(name).options if option.positional):
            words = " ".join(
                " ".join(value) if isinstance(value, tuple) else str(value) for value in given.values()
            )
            same = name in ("hostname", "uname")
            works.append(Work(f"`{name} {words}".rstrip() + "`", partial(_tool, name, given), same))
    return works


def _tool(name: str, given: Mapping[str, object], session: Session) -> Call:
    tool = tools.load(name)
    options = {option.name: option.default for option in tool.options} | dict(given)
    return lambda: list(tool.rows(session, options))


def same_works() -> list[Work]:
    """What any kernel does alike: its own threads have no memory and no files."""
    files = [f"/proc/2/{name}" for name in ("stat", "status", "cmdline")]
    return [
        Work(f"`ps --pid` of {THREADS} kernel threads", _ps_of_threads, True),
        Work(f"`/proc/2/` stat, status, cmdline, {READS} times", partial(_read, files * READS), True),
        Work("`dir /proc/2`", partial(_tool, "dir", {"path": "/proc/2"}), True),
        Work("`cat /proc/filesystems`", partial(_tool, "cat", {"path": ("/proc/filesystems",)}), True),
    ]


def _ps_of_threads(session: Session) -> Call:
    pid, ppid = 0, 1
    tool = tools.load("ps")
    rows = [row.cells for row in tool.rows(session, {option.name: option.default for option in tool.options})]
    pids = [row[pid] for row in rows if row[ppid] in (0, 2) and row[pid] != 1][:THREADS]
    if len(pids) < THREADS:
        raise RuntimeError(f"only {len(pids)} kernel threads")
    return _tool("ps", {"pid": pids}, session)


def _read(paths: Sequence[str], session: Session) -> Call:
    return lambda: [session.files.read(path) for path in paths]


# --- counting and timing ----------------------------------------------------------------------------------


def counted(session: Session, call: Call, instructions: Callable[[], int]) -> Counted:
    """Means of a warm call, repeated for `COUNT_SECONDS`; `instructions` gives how many were run so far."""
    rows, runs = len(call()), 0
    calls_before, before, started = session.calls, instructions(), time.perf_counter()
    while time.perf_counter() - started < COUNT_SECONDS:
        call()
        runs += 1
    return Counted(
        rows, round((session.calls - calls_before) / runs), round((instructions() - before) / runs)
    )


def under_taint(session: Session) -> Callable[[], int]:
    """Counts by SLOW-BRIDGE's own statistics."""
    return lambda: session.statistics.total.instructions


def by_hook(session: Session) -> Callable[[], int]:
    """Counts every instruction from here on, repeated string instructions each time, as SLOW-BRIDGE does."""
    instructions = 0

    def count(*_arguments: object) -> None:
        nonlocal instructions
        instructions += 1

    uc = session.bridge.machine.uc
    uc.hook_add(UC_HOOK_CODE, count)
    uc.ctl_flush_tb()  # what is translated already would not see it
    return lambda: instructions


def side_by_side(
    works: Sequence[Work], opened: Mapping[str, Callable[[], Session]]
) -> dict[tuple[str, str], Timed]:
    """Median times of every work's warm call, by its name and the variant's."""
    times: dict[tuple[str, str], list[Timed]] = {}
    for _ in range(RUNS):
        with ExitStack() as stack:
            sessions = {variant: stack.enter_context(open_one()) for variant, open_one in opened.items()}
            clocks = {variant: EmulatorClock(session) for variant, session in sessions.items()}
            for work in works:
                calls = {variant: work.prepare(session) for variant, session in sessions.items()}
                for call in calls.values():
                    call()
                for _slice in range(SLICES):
                    for variant, call in calls.items():
                        times.setdefault((work.name, variant), []).append(timed(call, clocks[variant]))
    return {key: Timed(*map(statistics.median, zip(*values, strict=True))) for key, values in times.items()}


class EmulatorClock:
    """Seconds that a session has spent inside the emulator that its calls are made on."""

    def __init__(self, session: Session) -> None:
        self.seconds = 0.0
        uc = session.caller.machine.uc
        self._start = uc.emu_start
        uc.emu_start = self._timed_start

    def _timed_start(self, begin: int, until: int) -> None:
        started = time.perf_counter()
        try:
            self._start(begin, until)
        finally:
            self.seconds += time.perf_counter() - started


def timed(call: Call, clock: EmulatorClock) -> Timed:
    """Means of a call that is repeated for `SLICE_SECONDS`."""
    runs, emulated, started = 0, clock.seconds, time.perf_counter()
    while (passed := time.perf_counter() - started) < SLICE_SECONDS:
        call()
        runs += 1
    return Timed(passed / runs, (clock.seconds - emulated) / runs)


# --- tables -----------------------------------------------------------------------------------------------


def slow_table(works: Sequence[Work], here: Mapping[str, Counted], times: Times) -> list[str]:
    """SLOW-BRIDGE beside FAST-BRIDGE."""
    rows = []
    for work in works:
        count, slow, fast = here[work.name], times[work.name, "slow"], times[work.name, "fast"]
        rows.append([
            work.name, str(count.rows), str(count.calls), f"{count.instructions:,}",
            number(1000 * slow.whole), number(1000 * fast.whole), number(slow.whole / fast.whole),
            number(slow.emulated / fast.emulated),
        ])  # fmt: skip
    header = [
        "warm", "rows", "system calls", "guest instructions", "SLOW, ms", "FAST, ms", "SLOW / FAST",
        "SLOW / FAST inside the emulator",
    ]  # fmt: skip
    return [
        "What taint costs. SLOW-BRIDGE proves every call; FAST-BRIDGE was trained and refuses to fall back.",
        "",
        *results.table(header, rows),
    ]


def limit_table(
    works: Sequence[Work], here: Mapping[str, Counted], alone: Mapping[str, Counted], times: Times
) -> list[str]:
    """FAST-BRIDGE beside the trusted kernel alone."""
    rows = []
    for work in works:
        fast, limit = times[work.name, "fast"], times[work.name, "limit"]
        counts = [here[work.name], alone[work.name]]
        each = [
            1e9 * spent.emulated / count.instructions
            for spent, count in zip((fast, limit), counts, strict=True)
        ]
        rows.append([
            work.name,
            *(f"{count.calls}; {count.instructions:,}" for count in counts),
            *(f"{number(1000 * spent.whole)}; {number(1000 * spent.emulated)}" for spent in (fast, limit)),
            number(fast.whole / limit.whole) if work.same else "",
            *(number(nanoseconds) for nanoseconds in each),
            number(each[0] / each[1]),
        ])  # fmt: skip
    header = [
        "warm", "FAST: calls; instructions", "limit: calls; instructions", "FAST, ms: all; emulator",
        "limit, ms: all; emulator", "FAST / limit, all", "FAST, ns per instruction",
        "limit, ns per instruction", "FAST / limit, per instruction",
    ]  # fmt: skip
    return [*LIMIT_NOTE, "", *results.table(header, rows)]


if __name__ == "__main__":
    main()
