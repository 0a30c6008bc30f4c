"""Fields of a kernel's instructions that have certain values, told from bytes that only look like them.

Functions are disassembled from their first byte on, as far as there is something to look for. What the
disassembler does not know is passed over if its length is known, and ends the function otherwise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from hybridbridge_vol.units import U64

MAX_INSTRUCTION_SIZE = 15
_LONGEST_FUNCTION = 1 << 20
_PREFIXES = b"\x66\xf2\xf3" + bytes(range(0x40, 0x50))
WIDEST_IMMEDIATE = 4
"""Bytes of an instruction that may follow a displacement."""
_GROUPS = (b"\x0f\x00", b"\x0f\x01")
_REGISTERS = b"\xc0"
"""ModRM of two registers at least."""
_MASKING = frozenset(("and", "test", "or", "xor", "andn", "bt"))


class Range(NamedTuple):
    """Code from `start` to `end`, offsets in the image; the first instruction is at `start`."""

    start: int
    end: int


class Field(NamedTuple):
    """An operand of an instruction: the offset of its bytes, their number, and what it stands for as a 64-bit
    number. `is_address`: of a memory operand, relative to RIP if `is_relative`, to
    any register if `has_base`. `is_wide`: all 64 bits count.
    `instruction` is the offset of the instruction, `end` that behind it."""

    offset: int
    size: int
    value: int
    is_address: bool
    is_relative: bool
    has_base: bool
    is_wide: bool
    is_mask: bool
    mnemonic: str
    instruction: int
    end: int


def fields_at(image: bytes, functions: Sequence[Range], wanted: Sequence[int]) -> Iterator[Field]:
    """The fields of instructions in `functions` that begin at one of the offsets `wanted` (both ascending).

    Of the immediates those of jumps and calls are left out.
    """
    capstone, plain, detailed = _disassemblers()
    for function in functions:
        first = bisect_left(wanted, function.start)
        last = bisect_left(wanted, min(function.end, function.start + _LONGEST_FUNCTION))
        if first == last:
            continue
        places = wanted[first:last]
        for start, size in _instructions(plain, image, function, places[-1]):
            place = bisect_left(places, start)
            if place < len(places) and places[place] < start + size:
                inside = set(places[place : place + size])
                code = image[start : start + size]
                for instruction in detailed.disasm(code, start, 1):
                    yield from (field for field in _fields(capstone, instruction) if field.offset in inside)


def all_fields(image: bytes, function: Range, bits: int = 64) -> Iterator[Field]:
    """The fields of all instructions of a function, in their order; of code for 64 or 32 bits."""
    capstone, plain, detailed = _disassemblers(bits)
    for start, size in _instructions(plain, image, function, function.end):
        for instruction in detailed.disasm(image[start : start + size], start, 1):
            yield from _fields(capstone, instruction)


def end_of_mode(image: bytes, function: Range) -> int:
    """The offset behind the instruction with which code of 32 bits changes to 64: a far jump or return. That
    of the function's end if there is none."""
    _capstone, plain, _detailed = _disassemblers(32)
    code = image[function.start : function.end]
    for start, size, mnemonic, _operands in plain.disasm_lite(code, function.start):
        if mnemonic in ("ljmp", "lret", "retf"):
            return int(start) + int(size)
    return function.end


def static_references(
    image: bytes, image_vaddr: int, functions: Sequence[Range], variables: Sequence[Range]
) -> set[int]:
    """Offsets of the 32-bit operands of code that are the address of something in `variables`, relative to
    RIP or absolute; the image begins at the virtual address `image_vaddr`."""
    import numpy as np  # 0.1 s, and few kernels need this

    found: set[int] = set()
    last = max((function.end for function in functions), default=0)
    numbers = np.ndarray((max(min(last, len(image) - 3), 0),), "<u4", image, 0, (1,))
    behind = np.arange(4, 4 + len(numbers), dtype="<u4")
    for variable in variables:
        size = variable.end - variable.start
        absolute = numbers - np.uint32((image_vaddr + variable.start) & 0xFFFFFFFF) < size
        relative = behind + numbers - np.uint32(variable.start) + WIDEST_IMMEDIATE < size + WIDEST_IMMEDIATE
        for item in fields_at(image, functions, (absolute | relative).nonzero()[0].tolist()):
            place = item.value if item.is_relative else item.value - image_vaddr
            if item.is_address and variable.start <= place < variable.end:
                found.add(item.offset)
    return found


def _instructions(plain: Any, image: bytes, function: Range, last: int) -> Iterator[tuple[int, int]]:
    """`(offset, size)` of the instructions of a function, up to the one that holds the offset `last`."""
    at = function.start
    stop = min(function.end, last + MAX_INSTRUCTION_SIZE)
    while at < stop:
        for start, size, _mnemonic, _operands in plain.disasm_lite(image[at:stop], at):
            yield start, size
            at = start + size
            if at > last:
                return
        skipped = _size_of_unknown(image[at : at + MAX_INSTRUCTION_SIZE])
        if not skipped:
            return
        at += skipped


def _size_of_unknown(code: bytes) -> int:
    """The size of an instruction that disassemblers may not know yet: of opcode groups 6 and 7 (SDM volume 2,
    A.4) or with a VEX prefix, its operands registers. 0 for others."""
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    rest = code[at : at + 5]
    if rest[:2] in _GROUPS and rest[2:3] >= _REGISTERS:
        return at + 3
    if rest[:1] == b"\xc4" and rest[4:5] >= _REGISTERS:
        return at + 5
    return at + 4 if rest[:1] == b"\xc5" and rest[3:4] >= _REGISTERS else 0


_NEAR, _FAR_JUMP = ("call", "loop", "xbegin"), "ljmp"


def _fields(capstone: Any, instruction: Any) -> Iterator[Field]:
    mnemonic: str = instruction.mnemonic
    is_wide = bool(instruction.operands) and instruction.operands[0].size == 8
    for operand in instruction.operands:
        if operand.type == capstone.CS_OP_MEM and instruction.disp_offset:
            yield _displacement(capstone, instruction, operand.mem, is_wide or mnemonic != "lea")
        elif operand.type != capstone.CS_OP_IMM or mnemonic.startswith("j") or mnemonic in _NEAR:
            continue
        elif instruction.imm_offset or mnemonic == _FAR_JUMP:
            yield _immediate(instruction, operand, is_wide or mnemonic == "push")


def _displacement(capstone: Any, instruction: Any, memory: Any, is_wide: bool) -> Field:
    start, end = instruction.address, instruction.address + instruction.size
    is_relative = memory.base == capstone.x86.X86_REG_RIP
    return Field(
        start + instruction.disp_offset,
        8 if instruction.disp_size == 8 else 4,
        memory.disp + (end if is_relative else 0) & U64,
        True,
        is_relative,
        memory.base != 0,
        is_wide,
        False,
        instruction.mnemonic,
        start,
        end,
    )


def _immediate(instruction: Any, operand: Any, is_wide: bool) -> Field:
    mnemonic: str = instruction.mnemonic
    start, end = instruction.address, instruction.address + instruction.size
    far = mnemonic == _FAR_JUMP  # the address, and then the number of a segment
    return Field(
        start + (1 if far else instruction.imm_offset),
        8 if instruction.imm_size == 8 and not far else 4,
        operand.imm & U64,
        False,
        False,
        False,
        is_wide,
        mnemonic in _MASKING,
        mnemonic,
        start,
        end,
    )


@cache
def _disassemblers(bits: int = 64) -> tuple[Any, Any, Any]:
    """capstone (which has no types), and two disassemblers, the second with operands."""
    import capstone  # takes 60 ms, and most kernels bring their relocations

    mode = capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32
    plain, detailed = (capstone.Cs(capstone.CS_ARCH_X86, mode) for _ in range(2))
    detailed.detail = True
    return capstone, plain, detailed


def text_ranges(starts: Iterable[int], parts: Iterable[Range]) -> list[Range]:
    """Functions by where they begin, each up to the next one or the end of its part of the text."""
    ordered = sorted(set(starts))
    found = []
    for part in parts:
        inside = ordered[bisect_left(ordered, part.start) : bisect_left(ordered, part.end)]
        found += [Range(start, end) for start, end in pairwise([*inside, part.end])]
    return found
