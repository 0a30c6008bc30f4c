"""Static references to the slab allocator's caches, which must reach the trusted kernel's.

The twin's static references reach the snapshot's variables. A variable that holds a slab cache
(`kmalloc_caches`, say) is an exception: memory that our calls allocate must come from the trusted kernel's
own caches.
"""

from __future__ import annotations

from collections.abc import Iterable

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.taint.decoder import Instruction
from hybridbridge_vol.bridge.taint.rules import Bits, OperandKind, RuleKind
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.units import U64

FIELD_SIZE = 4
"""Bytes of a displacement."""
_POINTER_SIZE = 8
_WIDEST_RANGE = 64
"""Bytes that were loaded from beside each other, and in which a variable is looked for."""
_LONGEST_TABLE = 1 << 13
"""Bytes of a table of caches: `kmalloc_caches` has up to 19 kinds of 14 sizes (include/linux/slab.h)."""
_NOT_PLAIN = Bits.PUSHES | Bits.POPS | Bits.KEEPS_TARGET


class SlabCaches:
    """The trusted kernel's slab caches, as a machine of the bridge reads them."""

    def __init__(self, bridge: Bridge, machine: Machine) -> None:
        self._layout = bridge.layout
        self._home_text_vaddr = bridge.sides.home_text_vaddr
        self._machine = machine
        self._caches = frozenset(bridge.prepared.caches)

    def at_offset(self, offset: int) -> int | None:
        """The slab cache in the trusted kernel's variable at an offset from `_text`; None if it has none."""
        if not 0 <= offset <= self._layout.size - _POINTER_SIZE:
            return None
        word = self._machine.read_u64(self._home_text_vaddr + offset)
        return word if word in self._caches else None

    def at_paddr(self, paddr: int) -> int | None:
        """The same, for the variable that the snapshot has at a physical address of the image."""
        return self.at_offset(paddr - self._layout.text_paddr)

    def slot_among(self, ranges: Iterable[tuple[int, int]]) -> int | None:
        """The physical address of the one variable that holds a cache among `(physical address, size)` ranges
        of the image; None if there is none, or more than one."""
        places = {
            place
            for paddr, size in ranges
            if size <= _WIDEST_RANGE
            for place in (paddr, *range(-(-paddr // 8) * 8, paddr + size, _POINTER_SIZE))
            if place + _POINTER_SIZE <= paddr + size
        }
        slots = [place for place in places if self.at_paddr(place) is not None]
        return slots.pop() if len(slots) == 1 else None

    def are_table(self, displacement: bytes, paddr: int) -> bool:
        """Whether from the absolute address in a displacement up to the variable at a physical address of the
        image there is nothing but caches and null pointers: a table, into which any index leads."""
        first = int.from_bytes(displacement, "little", signed=True) - self._layout.text_vaddr & U64
        last = paddr - self._layout.text_paddr
        if not 0 <= last - first < _LONGEST_TABLE or not self._layout.size > last:
            return False
        return all(
            not self._machine.read_u64(self._home_text_vaddr + place) or self.at_offset(place) is not None
            for place in range(first, last, _POINTER_SIZE)
        )

    def is_loaded_by(self, instruction: Instruction, displacement: bytes) -> bool:
        """Whether an instruction of the twin loads a variable that holds a cache. `displacement` from RIP is
        given as SLOW-BRIDGE executes it."""
        if not loads_a_pointer(instruction):
            return False
        named = instruction.vaddr + instruction.size + int.from_bytes(displacement, "little", signed=True)
        return self.at_offset(named - self._layout.text_vaddr) is not None


def loads_a_pointer(instruction: Instruction) -> bool:
    """Whether an instruction moves the eight bytes of a static variable that it names relative to RIP into a
    register."""
    rule = instruction.rule
    is_move = rule.kind is RuleKind.COPY and not rule.bits & _NOT_PLAIN
    is_load = rule.source.kind is OperandKind.MEMORY and rule.target.kind is OperandKind.REGISTER
    is_static = 0 < instruction.relative_field == instruction.static_field
    return is_move and is_load and is_static and rule.source.size == _POINTER_SIZE
