"""Transfer rules: what one instruction does to labels, as the native engine (native/taint.c) understands
it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from hybridbridge_vol.units import U64

RULE_FORMAT = "<8B3H2B2IQ"


NO_REGISTER = 255


class Kind(IntEnum):
    """How a rule is applied; `enum kind` of the engine."""

    NONE, COPY, CLEAR, ALU, BITS, SWAP, ADDSWAP, COMPARESWAP, STRING, GENERIC, TRAMPOLINE, JUMP = range(12)


class Place(IntEnum):
    """What an operand is; `enum place` of the engine."""

    NONE, REGISTER, MEMORY, CONSTANT, SNAPSHOT_ADDRESS = range(5)


class Bits(IntFlag):
    """`enum bits` of the engine."""

    READS_FLAGS = 1
    WRITES_FLAGS = 2
    POPS = 4
    SIGN_EXTENDS = 8
    MEMORY = 16
    STATIC = 32
    PUSHES = 64
    KEEPS_TARGET = 128
    TWO_STRINGS = 128  # of generic rules
    SUBTRACTS = 128  # of arithmetic


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand: `slot` is the first byte of a register in the engine's register file, `size` in bytes."""

    place: Place = Place.NONE
    slot: int = 0
    size: int = 0


_NO_BITS = Bits(0)


@dataclass(frozen=True, slots=True)
class Rule:
    """See the module's text; `pack` gives the engine's `struct rule`."""

    kind: Kind
    bits: Bits = _NO_BITS
    target: Operand = Operand()
    source: Operand = Operand()
    second: Operand = Operand()
    base: int = NO_REGISTER
    index: int = NO_REGISTER
    reads: int = 0
    writes: int = 0
    mask: int = U64

    def pack(self) -> bytes:
        """The engine's own form."""
        return struct.pack(
            RULE_FORMAT,
            self.kind,
            self.bits,
            self.target.place,
            self.source.place,
            self.second.place,
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


_RAX, _RDX, _RSP, _RBP, _RSI, _RDI = 0, 2, 4, 5, 6, 7


def trampoline(trusted_arguments: int, lenient: bool = False) -> Rule:
    """The rule of a trampoline; bit i says that the i-th argument must not be the snapshot's, unless
    `lenient`: then one that cannot be made the trusted kernel's is let pass (the trampoline looks itself)."""
    registers = (_RDI, _RSI, _RDX, 1, 8, 9)
    reads = sum(1 << register for i, register in enumerate(registers) if trusted_arguments >> i & 1)
    return Rule(Kind.TRAMPOLINE, reads=reads, writes=int(lenient))
