"""FAST-BRIDGE with fall-back to SLOW-BRIDGE: how every call is run.

FAST runs the twin's proven code at the emulator's full speed; everywhere else its twin holds `int3`. At one, SLOW
takes over for the rest of that call, proves what it runs, and the memo grows; FAST goes on with the next call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hybridbridge_vol.bridge import memo as memos
from hybridbridge_vol.bridge.attach import Bridge
from hybridbridge_vol.bridge.rules import Instruction
from hybridbridge_vol.errors import NotMemoized
from hybridbridge_vol.machine.machine import VECTOR_BREAKPOINT, Machine, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hybridbridge_vol.bridge.slow import SlowBridge

SLOW_FACTOR = 30
"""How much longer than FAST a call may take under taint before it counts as endless."""


class Mode(StrEnum):
    """`auto`: FAST with fall-back. `fast`: refuse to fall back. `slow`: prove every call."""

    AUTO = "auto"
    FAST = "fast"
    SLOW = "slow"


@dataclass
class Statistics:
    """What a session did. `traps`: calls that fell back to SLOW; `memoized`: instructions newly proven; `slow`: the
    taint engine's own counts (instructions, crossings, loads of the snapshot ...), of SLOW's part only."""

    calls: int = 0
    traps: int = 0
    undone: int = 0
    memoized: int = 0
    reclassified: int = 0
    trapped_in: list[str] = field(default_factory=list)
    stray: dict[str, int] = field(default_factory=dict)
    slow: dict[str, int] = field(default_factory=dict)
    unknown_instructions: dict[str, int] = field(default_factory=dict)


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
            from hybridbridge_vol.bridge.slow import SlowBridge

            self._slow = SlowBridge(self.bridge, self._user)
        return self._slow

    def close(self) -> None:
        """Keep what was learned and let SLOW go."""
        memos.save(self.bridge.kernel.folder, self.bridge.memo)
        if self._slow is not None:
            self._slow.close()
            self._slow = None

    def undone(self) -> None:
        """Memory went back to the session's mark: what the shadow state says of it is no longer true."""
        self.statistics.undone += 1
        if self._slow is not None:
            self._slow.engine.reset()
            self._slow.machine.flush_translations()

    def wrote_virtual(self, vaddr: int, size: int) -> None:
        """As `wrote`, at a virtual address of the trusted side that does not cross a page."""
        if self.mode is Mode.SLOW:
            translation = self.machine.translate(vaddr)
            if translation is not None:
                self.wrote(translation.paddr, size)

    def wrote(self, paddr: int, size: int) -> None:
        """Python stored something of its own at a guest-physical address."""
        if self.mode is Mode.SLOW and self._slow is not None:
            self._slow.engine.clean(paddr, size)

    def call(
        self, function_vaddr: int, arguments: tuple[int, ...], stack_vaddr: int, until: int, seconds: float
    ) -> Stop:
        """As `Machine.call`. NotMemoized in mode `fast` where FAST has no memo; the call must be undone then."""
        self.statistics.calls += 1
        if self.mode is Mode.SLOW:
            stop = self.slow.call(function_vaddr, arguments, stack_vaddr, until, seconds * SLOW_FACTOR)
            self._learn(stop)
            return stop
        stop = self.machine.call(function_vaddr, arguments, stack_vaddr, until, seconds)
        if stop.kind != "exception" or stop.vector != VECTOR_BREAKPOINT or not self.bridge.in_twin(stop.rip):
            return stop
        return self._fall_back(stop, until, seconds)

    def _fall_back(self, stop: Stop, until: int, seconds: float) -> Stop:
        rip = stop.rip - 1
        where = self.bridge.describe(rip)
        if self.mode is Mode.FAST:
            function = where.partition(" ")[2] or where
            raise NotMemoized(f"FAST-BRIDGE has no memo for {function}; use --bridge auto, or train first", function)
        self.statistics.traps += 1
        self.statistics.trapped_in.append(where)
        slow = self.slow
        self.machine.write_register("RIP", rip)
        slow.take_over(self.machine)
        stop = slow.go_on(rip, until, seconds * SLOW_FACTOR)
        slow.hand_back(self.machine)
        self._learn(stop)
        return stop

    def _learn(self, stop: Stop) -> None:
        """Take what a run proved into the memo; nothing if it did not end well."""
        slow = self.slow
        learned = slow.learned()
        reclassified, slow.reclassified = slow.reclassified, set()
        for finding in slow.findings:
            where = self.bridge.describe(finding.vaddr)
            self.statistics.stray[where] = self.statistics.stray.get(where, 0) + 1
        if stop.kind != "returned":
            slow.forget(learned)
            return
        if not learned and not reclassified:
            return
        self.bridge.memo.add(self._ranges(learned), reclassified)
        self.statistics.memoized += len(learned)
        self.statistics.reclassified += len(reclassified)
        text = self.bridge.layout.text_vaddr
        pages = self.bridge.space.renew_twin(
            [*(item.vaddr - text for item in learned), *(item.vaddr - text + item.size - 1 for item in learned), *reclassified]
        )
        if reclassified:
            slow.renewed(pages, reclassified)
        for page in pages:
            self.bridge.machine.uc.ctl_remove_cache(page, page + 4096)

    def _ranges(self, instructions: list[Instruction]) -> list[tuple[int, int]]:
        text = self.bridge.layout.text_vaddr
        return [(item.vaddr - text, item.vaddr - text + item.size) for item in instructions]

    def finish_statistics(self) -> Statistics:
        """The statistics with the taint engine's own counts."""
        if self._slow is not None:
            self.statistics.slow = self._slow.engine.statistics
            self.statistics.unknown_instructions = dict(self._slow.engine.unknown)
        return self.statistics
