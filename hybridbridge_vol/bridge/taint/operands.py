"""Operands of one instruction, as rules have them, and the static addresses that they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import capstone
from capstone import x86_const as x86

from hybridbridge_vol.bridge.taint.registers import NO_REGISTER, SLOTS, general_number
from hybridbridge_vol.bridge.taint.rules import NO_BITS, Bits, Operand, OperandKind
from hybridbridge_vol.units import U64

_MAX_OPERAND = 64
"""Bytes of one access that the engine follows (`MAX_WIDTH`); `fxsave` and its like have more."""


@dataclass(frozen=True, slots=True)
class StaticTargets:
    """What the addresses that code names without a register stand for.

    `snapshot`: the virtual addresses at which static references reach the snapshot's data; none for home's
    code. `per_cpu`: the offsets from GS that reach the snapshot's per-CPU variables. `pointers`: immediates
    that are pointers of the snapshot's (bridge/text/runtime_constants.py).
    """

    snapshot: tuple[range, ...] = ()
    per_cpu: range = range(0)
    pointers: frozenset[int] = frozenset()

    def reach_snapshot(self, value: int) -> bool:
        """Whether a number, taken as a virtual address, is one of the snapshot's static data."""
        vaddr = value & U64
        return any(vaddr in vaddrs for vaddrs in self.snapshot)

    def is_static(self, insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> bool:
        """Whether a memory operand names a static address of the snapshot's."""
        return self.reach_snapshot(_named_address(insn, memory))

    def is_per_cpu(self, insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> bool:
        """Whether a memory operand relative to GS names a per-CPU variable of the snapshot's."""
        return _named_address(insn, memory) in self.per_cpu

    def operand(self, operand: capstone.x86.X86Op) -> Operand:
        """One operand. A register that is not followed (CR3, DS) is a constant."""
        if operand.type == x86.X86_OP_REG:
            slot = SLOTS.get(operand.reg)
            return Operand(OperandKind.REGISTER, *slot) if slot else _constant(operand.size)
        if operand.type == x86.X86_OP_MEM:
            return Operand(OperandKind.MEMORY, 0, min(operand.size, _MAX_OPERAND))
        if self.reach_snapshot(operand.imm) or operand.imm & U64 in self.pointers:
            return Operand(OperandKind.SNAPSHOT_ADDRESS, 0, operand.size)
        return _constant(operand.size)


class Decoded(NamedTuple):
    """One instruction: its mnemonic without prefixes, and its operands as rules have them and as capstone
    has them."""

    insn: capstone.CsInsn
    name: str
    operands: list[Operand]
    raw_operands: list[capstone.x86.X86Op]
    targets: StaticTargets

    def is_immediate(self, number: int) -> bool:
        """Whether an operand is a number in the instruction itself."""
        return bool(self.raw_operands[number].type == x86.X86_OP_IMM)


@dataclass(frozen=True, slots=True)
class Addressing:
    """How an instruction addresses memory. `base`, `index`: numbers of general registers. `static_field`,
    `relative_field`: offsets in its bytes of the 32-bit displacement, if that names a static address of the
    snapshot's, and if it counts from RIP; else 0."""

    bits: Bits = NO_BITS
    base: int = NO_REGISTER
    index: int = NO_REGISTER
    static_field: int = 0
    relative_field: int = 0


NO_MEMORY = Addressing()


def addressing_of(
    insn: capstone.CsInsn, operands: list[capstone.x86.X86Op], targets: StaticTargets
) -> Addressing:
    """How an instruction with these operands addresses memory; `NO_MEMORY` if it does not.

    Of two memory operands, which only string instructions have, the last one counts.
    """
    found = NO_MEMORY
    for operand in operands:
        if operand.type != x86.X86_OP_MEM:
            continue
        memory = operand.mem
        bits, static_field, relative_field = (
            found.bits | Bits.MEMORY,
            found.static_field,
            found.relative_field,
        )
        if memory.base == x86.X86_REG_RIP:
            relative_field = insn.disp_offset
        if memory.segment in (x86.X86_REG_GS, x86.X86_REG_FS):
            bits |= Bits.STATIC if targets.is_per_cpu(insn, memory) else NO_BITS
        elif targets.is_static(insn, memory):
            bits |= Bits.STATIC
            static_field = insn.disp_offset
        found = Addressing(
            bits, general_number(memory.base), general_number(memory.index), static_field, relative_field
        )
    return found


def _named_address(insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> int:
    """The address that a memory operand names without its registers, or its offset from a segment's base."""
    start = insn.address + insn.size if memory.base == x86.X86_REG_RIP else 0
    return (start + int(memory.disp)) & U64


def _constant(size: int) -> Operand:
    return Operand(OperandKind.CONSTANT, 0, size)
