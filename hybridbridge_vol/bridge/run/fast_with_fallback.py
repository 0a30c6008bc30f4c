"""FAST-BRIDGE with fall-back to SLOW-BRIDGE: how every call is run.

FAST runs the twin's proven code at the emulator's full speed; elsewhere its twin holds `int3`
(twin_pages.py). At one of these, SLOW takes over for the rest of that call, proves what it runs, and the memo
grows; FAST goes on with the next call. Likewise at a page of the image that has addresses of the trusted side
(trusted_addresses.py), which SLOW alone is given.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.run.invocation import Invocation
from hybridbridge_vol.bridge.run.statistics import CallCount, Statistics
from hybridbridge_vol.bridge.twin_pages import pages_of
from hybridbridge_vol.errors import NotMemoized
from hybridbridge_vol.machine.exceptions import VECTOR_BREAKPOINT, VECTOR_PAGE_FAULT
from hybridbridge_vol.machine.machine import Machine, Stop, UnmappedVirtual
from hybridbridge_vol.units import PAGE_SIZE

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.run.slow import SlowBridge, SlowRun
    from hybridbridge_vol.bridge.taint.decoder import Instruction

BREAKPOINT_SIZE = 1
"""Bytes of `int3`: after it has trapped, RIP is behind it (SDM volume 3A, 6.5)."""

SLOW_FACTOR = 6
"""How much more time than on FAST a call may take under taint before it counts as endless. Under taint an
instruction takes up to 45 times as long, but even the longest legitimate calls use only a fraction of their
budget."""


class Mode(StrEnum):
    """`auto`: FAST with fall-back. `fast`: refuse to fall back. `slow`: prove every call."""

    AUTO = "auto"
    FAST = "fast"
    SLOW = "slow"


class Hybrid:
    """Runs calls on a bridge in one of the modes and lets the memo grow. `user` is the guest-physical range
    of the proxy task's user memory, which must be there already."""

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
            # with capstone, which a session with a full memo does not need: 45 ms, to the 120 ms of a session
            from hybridbridge_vol.bridge.run.slow import SlowBridge

            self._slow = SlowBridge(self.bridge, self._user)
        return self._slow

    # --- life ---------------------------------------------------------------------------------------------

    def keep_learned(self) -> None:
        """Store what was proven so far; costs nothing if that is nothing new."""
        memo_file.save(self.bridge.kernel.folder, self.bridge.memo)

    def rest(self) -> None:
        """End the threads of both machines, before a fork; the next call starts what it needs again."""
        self.bridge.machine.rest()
        if self._slow is not None:
            self._slow.machine.rest()

    def close(self) -> None:
        """Store what was learned and let SLOW go."""
        self.keep_learned()
        if self._slow is not None:
            self._slow.close()
            self._slow = None

    # --- what others did to memory ------------------------------------------------------------------------

    def forget_labels(self) -> None:
        """Memory went back to an earlier state: what SLOW knows of it is no longer true."""
        if self._slow is not None:
            self._slow.engine.reset()
            self._slow.machine.flush_translations()

    def wrote(self, paddr: int, size: int) -> None:
        """Python stored something of its own at a guest-physical address."""
        if self.mode is Mode.SLOW and self._slow is not None:
            self._slow.engine.clean(paddr, size)

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, invocation: Invocation, label: str) -> Stop:
        """Make a call; `label` is for the statistics. UnmappedVirtual if the stack is not mapped; NotMemoized
        in mode `fast` where code has no memo. Whoever calls rolls back what did not return."""
        count = self.statistics.of(label)
        count.calls += 1
        start = time.perf_counter()
        try:
            if self.mode is Mode.SLOW:
                return self._learn(self.slow.call(invocation, self._slower(invocation)), count)
            stop = invocation.run(self.machine)
            if self._is_trap(stop):
                return self._fall_back(stop.rip - BREAKPOINT_SIZE, invocation, count)
            if self._is_withheld(stop):
                return self._let_slow_read(stop.rip, invocation, count)
            return stop
        finally:
            count.seconds += time.perf_counter() - start

    def call_together(self, invocation: Invocation, names: Mapping[str, int]) -> bool:
        """Run a program of so many calls of these names on FAST, without fall-back. Its time is divided
        evenly among the calls. False if it did not end well: whoever calls rolls it back."""
        start = time.perf_counter()
        try:
            stop = invocation.run(self.bridge.machine)
        except UnmappedVirtual:
            return False
        if stop.kind != "returned":
            where = self.bridge.describe(stop.rip)
            lost = self.statistics.lost_programs
            lost[where] = lost.get(where, 0) + 1
            return False
        share = (time.perf_counter() - start) / sum(names.values())
        for name, calls in names.items():
            count = self.statistics.of(name)
            count.calls += calls
            count.seconds += share * calls
        return True

    def _is_trap(self, stop: Stop) -> bool:
        """Whether FAST met code of the twin that has no memo."""
        is_breakpoint = stop.kind == "exception" and stop.vector == VECTOR_BREAKPOINT
        return is_breakpoint and self.bridge.in_twin(stop.rip)

    def _is_withheld(self, stop: Stop) -> bool:
        """Whether FAST met a page of the image that it is not given."""
        is_fault = stop.kind == "exception" and stop.vector == VECTOR_PAGE_FAULT
        return is_fault and self.bridge.space.withholds(stop.cr2)

    def _fall_back(self, rip: int, invocation: Invocation, count: CallCount) -> Stop:
        """Let SLOW run the rest, from `rip` on, of a call that met code without a memo. NotMemoized in mode
        `fast`."""
        where = self.bridge.describe(rip)
        if self.mode is Mode.FAST:
            function = where.partition(" ")[2] or where
            raise NotMemoized(
                f"FAST-BRIDGE has no memo for {function}; use --bridge auto, or train first", function
            )
        count.traps += 1
        self.statistics.trapped_in.append(where)
        return self._go_on_slow(rip, invocation, count)

    def _let_slow_read(self, rip: int, invocation: Invocation, count: CallCount) -> Stop:
        """The same of a call that met a page which FAST is not given, in any mode. No memo spares that: few
        pages of an honest image look so, and others after another boot of the trusted kernel."""
        count.withheld += 1
        return self._go_on_slow(rip, invocation, count)

    def _go_on_slow(self, rip: int, invocation: Invocation, count: CallCount) -> Stop:
        self.machine.write_register("RIP", rip)
        return self._learn(self.slow.go_on_from(self.machine, invocation, self._slower(invocation)), count)

    def _slower(self, invocation: Invocation) -> float:
        """`SLOW_FACTOR`, or so much of it as is left of what the answer may take."""
        most = invocation.seconds * SLOW_FACTOR
        return self.bridge.allowance.seconds_left(most) / invocation.seconds if most else SLOW_FACTOR

    # --- learning -----------------------------------------------------------------------------------------

    def _learn(self, run: SlowRun, count: CallCount) -> Stop:
        """Add what a run proved to the memo; nothing if it did not end well. How it ended."""
        count.instructions += run.instructions
        count.trampolines += run.trampolines
        for vaddr in run.unattributed:
            where = self.bridge.describe(vaddr)
            self.statistics.unattributed[where] = self.statistics.unattributed.get(where, 0) + 1
        if run.stop.kind == "returned" and (run.learned or run.redirected):
            count.memoized += len(run.learned)
            self.statistics.redirected += len(run.redirected)
            ranges = list(self._ranges([*run.learned, *self.slow.plain_code(run.learned)]))
            self._memorize(ranges, run.redirected)
        return run.stop

    def take_in(self, learned: Memo) -> None:
        """Add what another process has proven of the same kernel. The pages of code in use show it from now
        on: an instruction across the edge of two pages must not be whole in one of them only."""
        self._memorize(*self.bridge.twin.news_in(learned, self.bridge.memo))
        self.bridge.memo.merge(learned)  # of modules that are not in use here, too

    def _memorize(self, ranges: Sequence[tuple[int, int]], redirected: Collection[int]) -> None:
        """Ranges of code and trusted fields, as offsets from `_text`."""
        self.bridge.twin.learn(ranges, redirected)
        pages = self.bridge.twin.renew(chain(pages_of(ranges), redirected))
        if redirected and self._slow is not None:
            self._slow.code_changed(pages, redirected)
        for page in pages:
            self.bridge.machine.uc.ctl_remove_cache(page, page + PAGE_SIZE)

    def _ranges(self, instructions: Iterable[Instruction]) -> Iterator[tuple[int, int]]:
        """The `(start, end)` of instructions, as offsets from `_text`."""
        for item in instructions:
            offset = self.bridge.twin.offset_of(item.vaddr)
            if offset is not None:
                yield offset, offset + item.size

    def finish_statistics(self) -> Statistics:
        """The statistics so far, with what the kernel warned of and what the taint engine has no rule for."""
        warned = self.bridge.faults.warned
        self.statistics.warned = {self.bridge.describe(vaddr): times for vaddr, times in warned.items()}
        if self._slow is not None:
            self.statistics.unknown_instructions = dict(self._slow.engine.unknown)
            self.statistics.split = self._slow.engine.statistics["split"]
        return self.statistics
