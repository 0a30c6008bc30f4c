"""FAST-BRIDGE with fall-back to SLOW-BRIDGE: how every call is run.

FAST runs the twin's proven code at the emulator's full speed; everywhere else its twin holds `int3`. At one,
SLOW takes over for the rest of that call, proves what it runs, and the memo grows; FAST goes on with the next
call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum

from hybridbridge_vol.bridge import memo as memos
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.run.statistics import CallCount, Statistics
from hybridbridge_vol.errors import NotMemoized
from hybridbridge_vol.machine.exceptions import VECTOR_BREAKPOINT
from hybridbridge_vol.machine.machine import Machine, Stop, UnmappedVirtual
from hybridbridge_vol.units import PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hybridbridge_vol.bridge.run.slow import SlowBridge
    from hybridbridge_vol.bridge.taint.decoder import Instruction

BREAKPOINT_SIZE = 1
"""Bytes of `int3`: RIP stands behind it when it has trapped (SDM volume 3A, 6.5)."""

SLOW_FACTOR = 6
"""How much more time than on FAST a call may take under taint before it counts as endless. Instructions take
up to 15 times as long, and the longest honest calls a fraction of their budget."""


class Mode(StrEnum):
    """`auto`: FAST with fall-back. `fast`: refuse to fall back. `slow`: prove every call."""

    AUTO = "auto"
    FAST = "fast"
    SLOW = "slow"


class Hybrid:
    """Runs calls on a bridge in one of the modes and lets the memo grow."""

    def __init__(self, bridge: Bridge, mode: Mode, user: range) -> None:
        self.bridge = bridge
        self.mode = mode
        self.statistics = Statistics()
        self._user = user
        self._slow: SlowBridge | None = None
        self.machine: Machine = self.slow.machine if mode is Mode.SLOW else bridge.machine
        """The machine that calls begin and end on."""

    @property
    def slow(self) -> SlowBridge:
        """SLOW-BRIDGE, made when it is first needed."""
        if self._slow is None:
            from hybridbridge_vol.bridge.run.slow import SlowBridge

            self._slow = SlowBridge(self.bridge, self._user)
        return self._slow

    def keep_learned(self) -> None:
        """Put what was proven so far into the store; costs nothing where that is nothing new."""
        memos.save(self.bridge.kernel.folder, self.bridge.memo)

    def rest(self) -> None:
        """End the threads of both machines; the next call starts what it needs again."""
        self.bridge.machine.rest()
        if self._slow is not None:
            self._slow.machine.rest()

    def close(self) -> None:
        """Keep what was learned and let SLOW go."""
        self.keep_learned()
        if self._slow is not None:
            self._slow.close()
            self._slow = None

    def forget_labels(self) -> None:
        """Memory went back to the session's mark: what the shadow state says of it is no longer true."""
        if self._slow is not None:
            self._slow.engine.reset()
            self._slow.machine.flush_translations()

    def wrote(self, paddr: int, size: int) -> None:
        """Python stored something of its own at a guest-physical address."""
        if self.mode is Mode.SLOW and self._slow is not None:
            self._slow.engine.clean(paddr, size)

    def call(
        self,
        function_vaddr: int,
        arguments: tuple[int, ...],
        stack_vaddr: int,
        until: int,
        seconds: float,
        label: str,
    ) -> Stop:
        """As `Machine.call`; `label` is for the statistics. NotMemoized in mode `fast` where FAST has no
        memo; the call must be rolled back then."""
        count = self.statistics.of(label)
        count.calls += 1
        start = time.perf_counter()
        try:
            if self.mode is Mode.SLOW:
                self.slow.count(count)
                stop = self.slow.call(function_vaddr, arguments, stack_vaddr, until, seconds * SLOW_FACTOR)
                self._learn(stop, count)
                return stop
            stop = self.machine.call(function_vaddr, arguments, stack_vaddr, until, seconds)
            if (
                stop.kind != "exception"
                or stop.vector != VECTOR_BREAKPOINT
                or not self.bridge.in_twin(stop.rip)
            ):
                return stop
            return self._fall_back(stop, until, seconds, count)
        finally:
            count.seconds += time.perf_counter() - start

    def call_together(
        self,
        program_vaddr: int,
        arguments: tuple[int, ...],
        stack_vaddr: int,
        until: int,
        seconds: float,
        names: list[str],
    ) -> bool:
        """Run a program of several calls on FAST, with no fall-back. Its time is shared out evenly among the
        calls. False if it did not end well: it must be rolled back then."""
        start = time.perf_counter()
        try:
            stop = self.bridge.machine.call(program_vaddr, arguments, stack_vaddr, until, seconds)
        except UnmappedVirtual:
            return False
        if stop.kind != "returned":
            return False
        share = (time.perf_counter() - start) / len(names)
        for name in names:
            count = self.statistics.of(name)
            count.calls += 1
            count.seconds += share
        return True

    def _fall_back(self, stop: Stop, until: int, seconds: float, count: CallCount) -> Stop:
        rip = stop.rip - BREAKPOINT_SIZE
        where = self.bridge.describe(rip)
        if self.mode is Mode.FAST:
            function = where.partition(" ")[2] or where
            raise NotMemoized(
                f"FAST-BRIDGE has no memo for {function}; use --bridge auto, or train first", function
            )
        count.traps += 1
        self.statistics.trapped_in.append(where)
        slow = self.slow
        slow.count(count)
        self.machine.write_register("RIP", rip)
        slow.take_over(self.machine)
        stop = slow.go_on(rip, until, seconds * SLOW_FACTOR)
        slow.hand_back(self.machine)
        self._learn(stop, count)
        return stop

    def _learn(self, stop: Stop, count: CallCount) -> None:
        """Take what a run proved into the memo; nothing if it did not end well."""
        slow = self.slow
        slow.count(None)
        learned = slow.learned()
        reclassified, slow.reclassified = slow.reclassified, set()
        for finding in slow.findings:
            where = self.bridge.describe(finding.vaddr)
            self.statistics.unattributed[where] = self.statistics.unattributed.get(where, 0) + 1
        if stop.kind != "returned":
            slow.forget(learned)
            return
        reclassified |= slow.cache_loads(learned)
        if not learned and not reclassified:
            return
        ranges = list(self._ranges(learned))
        self.bridge.twin.learn(ranges, reclassified)
        count.memoized += len(learned)
        self.statistics.reclassified += len(reclassified)
        pages = self.bridge.twin.renew(
            [*(place for start, end in ranges for place in (start, end - 1)), *reclassified]
        )
        if reclassified:
            slow.renewed(pages, reclassified)
        for page in pages:
            self.bridge.machine.uc.ctl_remove_cache(page, page + PAGE_SIZE)

    def _ranges(self, instructions: list[Instruction]) -> Iterator[tuple[int, int]]:
        """The places of instructions, counted from `_text`."""
        for item in instructions:
            offset = self.bridge.twin.offset_of(item.vaddr)
            if offset is not None:
                yield offset, offset + item.size

    def finish_statistics(self) -> Statistics:
        """The statistics so far, with what the taint engine had no rule for."""
        if self._slow is not None:
            self.statistics.unknown_instructions = dict(self._slow.engine.unknown)
            self.statistics.split = self._slow.engine.statistics["split"]
        return self.statistics
