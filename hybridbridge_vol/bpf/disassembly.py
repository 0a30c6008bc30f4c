"""eBPF instructions as text, as the kernel's own disassembler writes them (kernel/bpf/disasm.c, Linux 5.10 to
7.2; bpftool prints the same)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

SIZE = 8
"""Bytes of struct bpf_insn."""
MOST_INSTRUCTIONS = 1 << 20
"""BPF_COMPLEXITY_LIMIT_INSNS: no program has more."""
_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)
_WIDTHS = {0x00: "u32", 0x08: "u16", 0x10: "u8", 0x18: "u64"}
_SIGNED = {0x00: "s32", 0x08: "s16", 0x10: "s8", 0x18: "s64"}
_IMM, _ABS, _IND, _MEM, _MEMSX, _ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0
_ALU_SIGNS = {
    0x00: "+=", 0x10: "-=", 0x20: "*=", 0x30: "/=", 0x40: "|=", 0x50: "&=", 0x60: "<<=", 0x70: ">>=",
    0x80: "neg",
    0x90: "%=", 0xA0: "^=", 0xB0: "=", 0xC0: "s>>=", 0xD0: "endian",
}  # fmt: skip
_JUMPS = {
    0x00: "jmp", 0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&", 0x50: "!=", 0x60: "s>", 0x70: "s>=",
    0x80: "call",
    0x90: "exit", 0xA0: "<", 0xB0: "<=", 0xC0: "s<", 0xD0: "s<=", 0xE0: "may_goto",
}  # fmt: skip
_ATOMICS = {0x00: "add", 0x40: "or", 0x50: "and", 0xA0: "xor"}
_XCHG, _CMPXCHG, _FETCH, _LOAD_ACQUIRE, _STORE_RELEASE = 0xE1, 0xF1, 0x01, 0x100, 0x110
_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE = 1, 2
_PSEUDO_CALL, _PSEUDO_KFUNC = 1, 2


class Instruction(NamedTuple):
    """struct bpf_insn: `value` is its signed immediate, `wide` the next instruction's, which follows the
    first half of a 64-bit constant."""

    position: int
    code: int
    target: int
    source: int
    offset: int
    value: int
    wide: int


def instructions(code: bytes) -> Iterator[Instruction]:
    """The instructions of a program; one of two slots comes once."""
    index = 0
    count = min(len(code) // SIZE, MOST_INSTRUCTIONS)
    while index < count:
        opcode, registers, offset, value = struct.unpack_from("<BBhi", code, SIZE * index)
        is_wide = opcode == 0x18 and index + 1 < count
        wide = struct.unpack_from("<i", code, SIZE * (index + 1) + 4)[0] if is_wide else 0
        yield Instruction(index, opcode, registers & 15, registers >> 4, offset, value, wide)
        index += 2 if is_wide else 1


Helper = Callable[[Instruction], str]
"""The text of what a call calls."""


def called(code: bytes) -> list[int]:
    """The immediates by which a program calls functions of the kernel's, helpers and kfuncs; each once, in
    the order of their first calls."""
    found: dict[int, None] = {}
    is_second = False
    whole = code[: min(len(code) // SIZE, MOST_INSTRUCTIONS) * SIZE]
    for opcode, registers, value in struct.iter_unpack("<BBxxi", whole):
        if is_second:
            is_second = False
        elif opcode == 0x18:
            is_second = True
        elif opcode == 0x85 and registers >> 4 != _PSEUDO_CALL:
            found[value] = None
    return list(found)


def instruction_text(one: Instruction, helper: Helper) -> str:
    """`(b7) r0 = 1`."""
    group = one.code & 7
    if group in (_ALU, _ALU64):
        body = _alu(one, group == _ALU)
    elif group in (_JMP, _JMP32):
        body = _jump(one, group == _JMP32, helper)
    else:
        body = {_LD: _load_constant, _LDX: _load, _ST: _store_constant, _STX: _store}[group](one)
    return f"({one.code:02x}) {body}"


def _alu(one: Instruction, is_32: bool) -> str:
    letter = "w" if is_32 else "r"
    target, operation = f"{letter}{one.target}", one.code & 0xF0
    if operation == 0xD0:
        if not is_32:
            return f"r{one.target} = bswap{one.value} r{one.target}"
        return f"r{one.target} = {'be' if one.code & 8 else 'le'}{one.value} r{one.target}"
    if operation == 0x80:
        return f"{target} = -{target}"
    sign = _ALU_SIGNS.get(operation, f"op-{operation:#x}")
    if operation in (0x30, 0x90) and one.offset == 1:
        sign = f"s{sign}"
    if not one.code & 8:
        return f"{target} {sign} {one.value}"
    source = f"{letter}{one.source}"
    if operation == 0xB0 and one.offset:
        if one.offset == 1 and one.value and not is_32:
            return f"{target} = addr_space_cast({source}, {one.value >> 16}, {one.value & 0xFFFF})"
        return f"{target} = (s{one.offset}){source}"
    return f"{target} {sign} {source}"


def _jump(one: Instruction, is_32: bool, helper: Helper) -> str:
    operation = one.code & 0xF0
    if operation == 0x80:
        return _call(one, helper)
    if operation == 0x90:
        return "exit"
    if one.code == 0x05:
        return f"goto pc{one.offset:+d}"
    if one.code == 0x06:
        return f"gotol pc{one.value:+d}"
    if operation == 0xE0:
        return f"may_goto pc{one.offset:+d}"
    letter = "w" if is_32 else "r"
    sign = _JUMPS.get(operation, f"op-{operation:#x}")
    right = f"{letter}{one.source}" if one.code & 8 else f"{one.value & 0xFFFFFFFF:#x}"
    return f"if {letter}{one.target} {sign} {right} goto pc{one.offset:+d}"


def _call(one: Instruction, helper: Helper) -> str:
    if one.source == _PSEUDO_CALL:
        return f"call pc{one.value:+d}{helper(one)}"
    return f"call {helper(one)}"


def _load_constant(one: Instruction) -> str:
    mode = one.code & 0xE0
    width = _WIDTHS[one.code & 0x18]
    if mode == _ABS:
        return f"r0 = *({width} *)skb[{one.value}]"
    if mode == _IND:
        return f"r0 = *({width} *)skb[r{one.source} + {one.value}]"
    if one.code != 0x18:
        return f"BUG_ld_{one.code:02x}"
    if one.source == _PSEUDO_MAP_FD:
        return f"r{one.target} = map[id:{one.value & 0xFFFFFFFF}]"
    if one.source == _PSEUDO_MAP_VALUE:
        return f"r{one.target} = map[id:{one.value & 0xFFFFFFFF}][0]+{one.wide & 0xFFFFFFFF}"
    number = one.wide & 0xFFFFFFFF
    return f"r{one.target} = {hex(number << 32 | one.value & 0xFFFFFFFF)}"


def _load(one: Instruction) -> str:
    widths = _SIGNED if one.code & 0xE0 == _MEMSX else _WIDTHS
    return f"r{one.target} = *({widths[one.code & 0x18]} *)(r{one.source} {one.offset:+d})"


def _store_constant(one: Instruction) -> str:
    if one.code & 0xE0 == _ATOMIC:
        return "nospec"
    return f"*({_WIDTHS[one.code & 0x18]} *)(r{one.target} {one.offset:+d}) = {one.value}"


def _store(one: Instruction) -> str:
    width = _WIDTHS[one.code & 0x18]
    place = f"*({width} *)(r{one.target} {one.offset:+d})"
    if one.code & 0xE0 != _ATOMIC:
        return f"{place} = r{one.source}"
    bits, letter = ("64", "r") if one.code & 0x18 == 0x18 else ("", "w")
    address = f"({width} *)(r{one.target} {one.offset:+d})"
    if one.value in _ATOMICS:
        return f"lock {place} {_ALU_SIGNS[one.value]} r{one.source}"
    if one.value & ~_FETCH in _ATOMICS and one.value & _FETCH:
        name = _ATOMICS[one.value & ~_FETCH]
        return f"r{one.source} = atomic{bits}_fetch_{name}({address}, r{one.source})"
    if one.value == _CMPXCHG:
        return f"r0 = atomic{bits}_cmpxchg({address}, r0, r{one.source})"
    if one.value == _XCHG:
        return f"r{one.source} = atomic{bits}_xchg({address}, r{one.source})"
    if one.value == _LOAD_ACQUIRE:
        return f"{letter}{one.target} = load_acquire(({width} *)(r{one.source} {one.offset:+d}))"
    if one.value == _STORE_RELEASE:
        return f"store_release({address}, {letter}{one.source})"
    return f"BUG_{one.code:02x}"
