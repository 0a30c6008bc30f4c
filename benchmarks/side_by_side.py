"""Counting what a work does, and timing it in several sessions in turns: SLOW-BRIDGE, FAST-BRIDGE, and the
engine's limit.

The limit is the same trusted kernel answering for itself (`benchmarks.alone`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import capstone
from unicorn.unicorn_const import UC_HOOK_BLOCK

from benchmarks import measure
from benchmarks.works import Call, Work
from hybridbridge_vol.guest.session import Session

SLICES, SLICE_SECONDS = 3, 0.02
"""In every run a variant has so many turns at a work; a shorter call is repeated for so long, and its mean
counts."""
COUNT_SECONDS = 1.0
"""Long enough to see the allocators' dearer calls too, which come once in a while."""


class Counted(NamedTuple):
    """What one warm call does: rows (files, lines) it gives, system calls into the kernel, guest
    instructions, how often the trusted kernel's text went over into the twin, which works on the snapshot,
    and how often the emulator was left."""

    rows: int
    calls: int
    instructions: int
    crossings: int
    exits: int


class Timed(NamedTuple):
    """Seconds of processor time of one warm call: all of it, and those inside the emulator."""

    whole: float
    emulated: float


Times = Mapping[tuple[str, str], Timed]
"""By the name of a work and of a variant."""


class Counter:
    """Counts what a session's emulator runs from here on: instructions, by whole basic blocks (a repeated
    string instruction is one of a block, as long as it takes), crossings, and how often it is left."""

    def __init__(self, session: Session) -> None:
        self.instructions = 0
        self.crossings = 0
        self.exits = 0
        self._bridge = session.bridge
        self._decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._inside = False
        self._blocks: dict[tuple[int, int], tuple[int, bool]] = {}
        uc = session.bridge.machine.uc
        uc.hook_add(UC_HOOK_BLOCK, self._block)  # for each instruction, programs would time out
        uc.ctl_flush_tb()  # what is translated already would not see it
        self._start = uc.emu_start
        uc.emu_start = self._enter

    def _enter(self, begin: int, until: int) -> None:
        self._start(begin, until)
        self.exits += 1

    def _block(self, _uc: object, vaddr: int, size: int, _data: object) -> None:
        known = self._blocks.get((vaddr, size))
        if known is None:
            code = self._bridge.machine.read(vaddr, size)
            instructions = sum(1 for _one in self._decoder.disasm_lite(code, vaddr))
            known = self._blocks[vaddr, size] = (instructions, self._bridge.in_twin(vaddr))
        instructions, inside = known
        self.instructions += instructions
        if inside and not self._inside:
            self.crossings += 1
        self._inside = inside


def count(session: Session, works: Sequence[Work]) -> dict[str, Counted]:
    """Means of warm calls, repeated for `COUNT_SECONDS`, by the works' names. RuntimeError if calls that
    belong together were made again one by one, as they would count twice."""
    calls = [work.prepare(session) for work in works]
    for call in calls:
        call()
    counter = Counter(session)
    counted = {work.name: _count(session, call, counter) for work, call in zip(works, calls, strict=True)}
    if session.statistics.lost_programs:
        raise RuntimeError(f"calls made one by one: {session.statistics.lost_programs}")
    return counted


def _count(session: Session, call: Call, counter: Counter) -> Counted:
    rows, runs = len(call()), 0
    before = session.calls, counter.instructions, counter.crossings, counter.exits
    started = time.perf_counter()
    while time.perf_counter() - started < COUNT_SECONDS:
        call()
        runs += 1
    after = session.calls, counter.instructions, counter.crossings, counter.exits
    return Counted(rows, *(round((end - begin) / runs) for begin, end in zip(before, after, strict=True)))


def side_by_side(
    works: Sequence[Work], opened: Mapping[str, Callable[[], Session]], runs: int
) -> dict[tuple[str, str], Timed]:
    """Median times of every work's warm call, by its name and the variant's."""
    times: dict[tuple[str, str], list[Timed]] = {}
    for _ in range(runs):
        with ExitStack() as stack:
            sessions = {variant: stack.enter_context(open_one()) for variant, open_one in opened.items()}
            clocks = {variant: EmulatorClock(session) for variant, session in sessions.items()}
            for work in works:
                calls = {variant: work.prepare(session) for variant, session in sessions.items()}
                for call in calls.values():
                    call()
                for _slice in range(SLICES):
                    for variant, call in calls.items():
                        times.setdefault((work.name, variant), []).append(_timed(call, clocks[variant]))
    return {key: Timed(*map(statistics.median, zip(*values, strict=True))) for key, values in times.items()}


class EmulatorClock:
    """Seconds of processor time that a session has spent inside the emulator that its calls are made on."""

    def __init__(self, session: Session) -> None:
        self.seconds = 0.0
        uc = session.caller.machine.uc
        self._start = uc.emu_start
        uc.emu_start = self._timed_start

    def _timed_start(self, begin: int, until: int) -> None:
        started = time.process_time()
        try:
            self._start(begin, until)
        finally:
            self.seconds += time.process_time() - started


def _timed(call: Call, clock: EmulatorClock) -> Timed:
    """Means of a call that is repeated for `SLICE_SECONDS`."""
    runs, emulated, started = 0, clock.seconds, measure.processor_seconds()
    while (passed := measure.processor_seconds() - started) < SLICE_SECONDS or not runs:
        call()
        runs += 1
    return Timed(passed / runs, (clock.seconds - emulated) / runs)
