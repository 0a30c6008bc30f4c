"""Transfer rules: what one instruction does to labels, in the form that the native engine applies.

`struct rule` and the enumerations of native/engine.h mirror this file; `engine_layout` guards the size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from hybridbridge_vol.bridge.taint.registers import NO_REGISTER, R8, R9, RCX, RDI, RDX, RSI
from hybridbridge_vol.units import U64

RULE_FORMAT = "<8B3H2B2IQ"
"""`struct rule` of the engine: 32 bytes."""


class RuleKind(IntEnum):
    """How the engine applies a rule (`enum rule_kind`).

    COPY: each byte of the target takes the label of the source's byte. CLEAR: the target becomes clean. ALU:
    each byte of the target takes the union of all bytes of the operands. BITS: each byte takes the union of
    the two operands' bytes of the same position. SWAP, ADDSWAP, COMPARESWAP: `xchg`, `xadd`, `cmpxchg`.
    STRING: one element of `movs`, `stos`, `lods`. GENERIC: all outputs take the union of all inputs.
    TRAMPOLINE: arguments are checked on the way to home. JUMP: an indirect target is checked.
    """

    NONE, COPY, CLEAR, ALU, BITS, SWAP, ADDSWAP, COMPARESWAP, STRING, GENERIC, TRAMPOLINE, JUMP = range(12)


class OperandKind(IntEnum):
    """What an operand is (`enum operand_kind`). SNAPSHOT_ADDRESS is a constant that is an address of the
    snapshot's static data."""

    NONE, REGISTER, MEMORY, CONSTANT, SNAPSHOT_ADDRESS = range(5)


class Bits(IntFlag):
    """Properties of a rule (`enum bits`). The highest bit has a meaning for each kind of rule that uses it.

    STATIC: the address of the memory operand (or the result of `lea`) begins at a static address of the
    snapshot. PUSHES and POPS: the access of that direction goes to the stack, whose address is not checked.
    """

    READS_FLAGS = 1
    WRITES_FLAGS = 2
    POPS = 4
    SIGN_EXTENDS = 8
    MEMORY = 16
    STATIC = 32
    PUSHES = 64
    KEEPS_TARGET = 128  # COPY, COMPARESWAP: the target may stay what it was
    TWO_STRINGS = 128  # GENERIC: `cmps` reads by two addresses
    SUBTRACTS = 128  # ALU


NO_BITS = Bits(0)


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand: `slot` is the first byte of a register in the register file, `size` in bytes."""

    kind: OperandKind = OperandKind.NONE
    slot: int = 0
    size: int = 0

    def sized(self, size: int) -> Operand:
        """The same operand with another size in bytes."""
        return Operand(self.kind, self.slot, size)


NO_OPERAND = Operand()


@dataclass(frozen=True, slots=True)
class Rule:
    """What one instruction does to labels.

    `base` and `index` are numbers of the general registers of the memory operand's address. `reads` and
    `writes` are masks of registers (GENERIC), or the arguments that must be the trusted kernel's and whether
    that is optional (TRAMPOLINE). Bytes of `mask` that are 0 become clean (BITS).
    """

    kind: RuleKind
    bits: Bits = NO_BITS
    target: Operand = NO_OPERAND
    source: Operand = NO_OPERAND
    second: Operand = NO_OPERAND
    base: int = NO_REGISTER
    index: int = NO_REGISTER
    reads: int = 0
    writes: int = 0
    mask: int = U64

    def pack(self) -> bytes:
        """The engine's `struct rule`."""
        return struct.pack(
            RULE_FORMAT,
            self.kind,
            self.bits,
            self.target.kind,
            self.source.kind,
            self.second.kind,
            self.target.size,
            self.source.size,
            self.second.size,
            self.target.slot,
            self.source.slot,
            self.second.slot,
            self.base,
            self.index,
            self.reads,
            self.writes,
            self.mask,
        )


_ARGUMENT_REGISTERS = (RDI, RSI, RDX, RCX, R8, R9)
"""System V ABI for AMD64, 3.2.3."""


def trampoline(trusted_arguments: int, optional: bool = False) -> Rule:
    """The rule of a trampoline, at which the twin jumps to home's function.

    Bit i of `trusted_arguments`: the i-th argument must not be a pointer of the snapshot's. If this is
    `optional`, one that cannot be replaced passes: the trampoline's own code handles it.
    """
    reads = sum(1 << register for i, register in enumerate(_ARGUMENT_REGISTERS) if trusted_arguments >> i & 1)
    return Rule(RuleKind.TRAMPOLINE, reads=reads, writes=int(optional))
