"""The engine's register file: which of its bytes belong to which x86-64 register.

First the sixteen general registers, 8 bytes each, in the order of their numbers in machine code; then the
sixteen vector registers, 16 bytes each. A `ymm` register has the bytes of its lower half: instructions with
such operands get the generic rule, by which all bytes of a register have one label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from capstone import x86_const as x86

from hybridbridge_vol.machine.registers import GENERAL_REGISTERS

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9 = range(10)
"""Numbers of general registers."""
NO_REGISTER = 255
"""Stands for a base or index register that an address does not have."""

GENERAL_SIZE, VECTOR_SIZE = 8, 16
GENERAL_BYTES = GENERAL_SIZE * len(GENERAL_REGISTERS)
"""Bytes of all general registers; the vector registers follow."""
VECTOR_COUNT = 16

FIRST_VECTOR_BIT = 16
"""In a mask of registers: bits 0 to 15 are the general ones, bits from 16 on the vector ones."""


class Slot(NamedTuple):
    """Bytes of the register file: the first one and how many."""

    first: int
    size: int


def _parts(number: int) -> Iterator[tuple[str, int, int]]:
    """`(name, first byte, bytes)` of a general register and its parts (SDM volume 1, 3.4.1.1)."""
    name = GENERAL_REGISTERS[number]
    yield name, 0, 8
    if number >= R8:
        yield from ((name + letter, 0, size) for letter, size in (("D", 4), ("W", 2), ("B", 1)))
        return
    short = name[1:]
    yield "E" + short, 0, 4
    yield short, 0, 2
    if number <= RBX:
        yield short[0] + "L", 0, 1
        yield short[0] + "H", 1, 1
    else:
        yield short + "L", 0, 1


def _all_slots() -> Iterator[tuple[int, Slot]]:
    """By capstone's number of the register."""
    for number in range(len(GENERAL_REGISTERS)):
        for name, first, size in _parts(number):
            yield getattr(x86, f"X86_REG_{name}"), Slot(GENERAL_SIZE * number + first, size)
    for number in range(VECTOR_COUNT):
        slot = Slot(GENERAL_BYTES + VECTOR_SIZE * number, VECTOR_SIZE)
        yield getattr(x86, f"X86_REG_XMM{number}"), slot
        yield getattr(x86, f"X86_REG_YMM{number}"), slot


SLOTS: dict[int, Slot] = dict(_all_slots())
"""The registers that are followed, by capstone's numbers. Segment, control and debug registers are not."""


def general_number(register: int) -> int:
    """Number of the general register that capstone's `register` is or is part of, else `NO_REGISTER`."""
    slot = SLOTS.get(register)
    return slot.first // GENERAL_SIZE if slot and slot.first < GENERAL_BYTES else NO_REGISTER


def register_mask(registers: Iterable[int]) -> int:
    """The mask of capstone's registers; see `FIRST_VECTOR_BIT`."""
    mask = 0
    for register in registers:
        slot = SLOTS.get(register)
        if slot is None:
            continue
        if slot.first < GENERAL_BYTES:
            mask |= 1 << slot.first // GENERAL_SIZE
        else:
            mask |= 1 << FIRST_VECTOR_BIT + (slot.first - GENERAL_BYTES) // VECTOR_SIZE
    return mask
