"""What to do about a processor exception while a bridge runs."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybridbridge_vol.bridge.per_cpu import redirect
from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace
from hybridbridge_vol.bridge.text.ud1 import UD2, ud1_size
from hybridbridge_vol.bridge.twin_pages import TwinPages
from hybridbridge_vol.machine.cpu import MAX_INSTRUCTION_SIZE
from hybridbridge_vol.machine.exceptions import (
    VECTOR_GENERAL_PROTECTION,
    VECTOR_INVALID_OPCODE,
    VECTOR_PAGE_FAULT,
    Verdict,
)
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.modules.traps import FixUp


class FaultHandler:
    """Completes the snapshot's space, goes on behind warnings, lets the trusted kernel fix up what its
    exception table covers, and ends the call for everything else. It serves both machines of a bridge.

    `warnings` and `fix_ups` are ascending offsets from `_text` of the kernel's instructions, see `Prepared`.
    """

    def __init__(
        self,
        space: SnapshotSpace,
        twin: TwinPages,
        sides: Sides,
        warnings: Sequence[int],
        fix_ups: Sequence[int],
    ) -> None:
        self._space = space
        self._twin = twin
        self._sides = sides
        self._warnings = warnings
        self._fix_ups = fix_ups
        self.warned: Counter[int] = Counter()
        """How often each WARN was met, by its virtual address."""
        self._per_cpu_offset_vaddr = sides.per_cpu_offsets

    def __call__(self, machine: Machine, vector: int, rip: int, cr2: int) -> Verdict:
        """See `machine.ExceptionHandler`."""
        if vector == VECTOR_PAGE_FAULT and (self._space.complete(cr2) or self._per_cpu(machine, rip, cr2)):
            return Verdict.RESUME
        if vector == VECTOR_PAGE_FAULT and self._space.withholds(cr2):
            return Verdict.STOP
        if vector == VECTOR_INVALID_OPCODE:
            return self._skip_warning(machine, rip)
        if vector in (VECTOR_PAGE_FAULT, VECTOR_GENERAL_PROTECTION):
            return self._fix_up(machine, rip)
        return Verdict.STOP

    def _per_cpu(self, machine: Machine, rip: int, cr2: int) -> bool:
        """Whether a page fault was that of a per-CPU pointer, which now leads into the snapshot's area."""
        offsets = self._per_cpu_offset_vaddr
        if rip == cr2 or offsets is None or self._twin.offset_of(rip) is None:
            return False
        return redirect(self._space, offsets, machine, rip, cr2)

    def _skip_warning(self, machine: Machine, rip: int) -> Verdict:
        """Go on behind a WARN of either side, and count it; a BUG ends the call."""
        trusted = self._space.modules.relocated_at(rip)
        is_modules = trusted is not None and rip in trusted.module.warnings
        if is_modules or _contains(self._warnings, rip - self._text_of(rip)):
            size = len(UD2)
        else:
            size = _ud1_size_at(machine, rip)
        if not size:
            return Verdict.STOP
        self.warned[rip] += 1
        machine.write_register("RIP", rip + size)
        return Verdict.RESUME

    def _text_of(self, rip: int) -> int:
        in_twin = self._twin.offset_of(rip) is not None
        return self._sides.twin_text_vaddr if in_twin else self._sides.home_text_vaddr

    def _fix_up(self, machine: Machine, rip: int) -> Verdict:
        """Deliver the fault to the trusted kernel if its exception table covers the instruction. For one in
        the twin, RIP is first moved to the same instruction at home. A module's are fixed up here, since the
        trusted kernel does not know the module."""
        trusted = self._space.modules.relocated_at(rip)
        if trusted is not None:
            fix_up = trusted.module.fix_ups.get(rip)
            return Verdict.STOP if fix_up is None else _go_on(machine, fix_up)
        text = self._text_of(rip)
        if not _contains(self._fix_ups, rip - text):
            return Verdict.STOP
        if text != self._sides.home_text_vaddr:
            machine.write_register("RIP", rip - text + self._sides.home_text_vaddr)
        return Verdict.DELIVER


def _ud1_size_at(machine: Machine, rip: int) -> int:
    try:
        return ud1_size(machine.read(rip, MAX_INSTRUCTION_SIZE))
    except UnmappedVirtual:
        return 0


def _go_on(machine: Machine, fix_up: FixUp) -> Verdict:
    if fix_up.register:
        machine.write_register(fix_up.register, fix_up.value)
    machine.write_register("RIP", fix_up.vaddr)
    return Verdict.RESUME


def _contains(ascending: Sequence[int], value: int) -> bool:
    index = bisect_left(ascending, value) if value >= 0 else len(ascending)
    return index < len(ascending) and ascending[index] == value
