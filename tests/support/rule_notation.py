"""Short names for transfer rules in tests."""

from __future__ import annotations

from collections import Counter

from assembly import assembled

from hybridbridge_vol.bridge.taint.decoder import Decoder, Instruction
from hybridbridge_vol.bridge.taint.operands import StaticTargets
from hybridbridge_vol.bridge.taint.registers import GENERAL_BYTES, VECTOR_SIZE
from hybridbridge_vol.bridge.taint.rules import Bits, Operand, OperandKind, Rule

TEXT = 0xFFFF_FFFF_9100_0000
WINDOW = range(TEXT, TEXT + 0x4000)
"""Virtual addresses that the twin's static references reach the snapshot at."""

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 = range(9)
WRITES, READS, MEMORY = Bits.WRITES_FLAGS, Bits.READS_FLAGS, Bits.MEMORY
NO_BITS = Bits(0)
ADDRESS = Operand(OperandKind.SNAPSHOT_ADDRESS, 0, 8)


def home_decoder() -> Decoder:
    """For code without static references into the snapshot."""
    return Decoder(StaticTargets(), Counter())


def twin_decoder() -> Decoder:
    """For code whose static references into `WINDOW` reach the snapshot."""
    return Decoder(StaticTargets((WINDOW,)), Counter())


def reg(number: int, size: int = 8, first: int = 0) -> Operand:
    """A general register's bytes."""
    return Operand(OperandKind.REGISTER, 8 * number + first, size)


def vector(number: int, size: int = VECTOR_SIZE) -> Operand:
    """A vector register's first bytes."""
    return Operand(OperandKind.REGISTER, GENERAL_BYTES + number * VECTOR_SIZE, size)


def mem(size: int) -> Operand:
    """Bytes of memory."""
    return Operand(OperandKind.MEMORY, 0, size)


def constant(size: int) -> Operand:
    """A number in the instruction, or a register that is not followed."""
    return Operand(OperandKind.CONSTANT, 0, size)


def decoded(listing: str, decoder: Decoder | None = None) -> Instruction:
    """The one instruction of a listing; it stands at `TEXT`."""
    (instruction,) = (decoder or home_decoder()).block(assembled(listing), TEXT)
    return instruction


def check(listing: str, rule: Rule) -> None:
    """The one instruction of a listing has this rule, as home's code."""
    assert decoded(listing).rule == rule


def numbers(mask: int) -> set[int]:
    """Registers of a generic rule: the general ones from 0, the vectors from 16."""
    return {number for number in range(32) if mask >> number & 1}
