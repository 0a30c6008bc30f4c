"""What to do about a processor exception while a bridge runs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.modules.traps import FixUp
from hybridbridge_vol.bridge.text.ud1 import UD2_SIZE, ud1_size
from hybridbridge_vol.machine.machine import (
    VECTOR_GENERAL_PROTECTION,
    VECTOR_INVALID_OPCODE,
    VECTOR_PAGE_FAULT,
    Machine,
    UnmappedVirtual,
    Verdict,
)

_MAX_INSTRUCTION = 15


class ExceptionFilter:
    """What to do about an exception while a bridge runs: complete the snapshot's space, let the trusted
    kernel fix up what its exception table covers, and end the call for everything else."""

    def __init__(self, bridge: Bridge, machine: Machine) -> None:
        self._bridge = bridge
        self._machine = machine
        self._home_text = bridge.kernel.text_link_vaddr + bridge.home_delta

    def __call__(self, vector: int, rip: int, cr2: int) -> Verdict:
        """See `machine.ExceptionFilter`."""
        if vector == VECTOR_PAGE_FAULT and self._bridge.space.complete(cr2):
            return Verdict.RESUME
        if (
            vector == VECTOR_PAGE_FAULT
            and rip != cr2
            and self._bridge.in_twin(rip)
            and self._per_cpu(rip, cr2)
        ):
            return Verdict.RESUME
        if vector == VECTOR_INVALID_OPCODE:
            return self._warn(rip)
        if vector in (VECTOR_PAGE_FAULT, VECTOR_GENERAL_PROTECTION):
            return self._fix_up(rip)
        return Verdict.STOP

    def _per_cpu(self, rip: int, cr2: int) -> bool:
        from hybridbridge_vol.bridge.per_cpu import redirect

        return redirect(self._bridge, self._machine, rip, cr2)

    def _warn(self, rip: int) -> Verdict:
        """Go on behind a WARN of either side (locks count as held, and the kernel may check that); a BUG is
        the end."""
        part = self._bridge.space.modules.relocated_at(rip)
        if (
            part is not None
            and rip in part.module.warnings
            or _contains(self._bridge.prepared.warnings, rip - self._text_of(rip))
        ):
            size = UD2_SIZE
        else:
            size = self._ud1_size(rip)
        if not size:
            return Verdict.STOP
        self._machine.write_register("RIP", rip + size)
        return Verdict.RESUME

    def _ud1_size(self, rip: int) -> int:
        try:
            return ud1_size(self._machine.read(rip, _MAX_INSTRUCTION))
        except UnmappedVirtual:
            return 0

    def _text_of(self, rip: int) -> int:
        return self._bridge.layout.text_vaddr if self._bridge.in_twin(rip) else self._home_text

    def _fix_up(self, rip: int) -> Verdict:
        """Deliver faults of covered instructions; one in the twin is told to the kernel as home's. Of a
        module the kernel does not know: what it would do is done here."""
        part = self._bridge.space.modules.relocated_at(rip)
        if part is not None:
            fix_up = part.module.fix_ups.get(rip)
            return Verdict.STOP if fix_up is None else self._go_on(fix_up)
        text = self._text_of(rip)
        if not _contains(self._bridge.prepared.fixups, rip - text):
            return Verdict.STOP
        if text != self._home_text:
            self._machine.write_register("RIP", rip - text + self._home_text)
        return Verdict.DELIVER

    def _go_on(self, fix_up: FixUp) -> Verdict:
        if fix_up.register:
            self._machine.write_register(fix_up.register, fix_up.value)
        self._machine.write_register("RIP", fix_up.vaddr)
        return Verdict.RESUME


def _contains(ascending: Sequence[int], value: int) -> bool:
    place = bisect_left(ascending, value) if value >= 0 else len(ascending)
    return place < len(ascending) and ascending[place] == value
