"""Where a structure has a field, by what a small function of the kernel's accesses first.

So no debug information is needed, and no order of fields is taken for granted, which RANDSTRUCT changes from
build to build.
"""

from __future__ import annotations

from typing import Any

_CODE_SIZE = 64
"""Bytes of a function that are searched for the access."""
LARGEST_OFFSET = 512


def first_field_of(booted: memoryview, start: int, size: int) -> int | None:
    """As `first_field`, of the function at an offset in a kernel's memory; None also if that is not in it."""
    return first_field(bytes(booted[start : start + _CODE_SIZE]), size) if start > 0 else None


def first_field(code: bytes, size: int) -> int | None:
    """The offset from its first argument of the first field of `size` bytes that a function loads or
    compares; None if it does neither before it branches. The argument may have been copied to another
    register."""
    import capstone  # 40 ms, and only a kernel that is prepared needs it
    from capstone import x86_const as x86

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    holders = {x86.X86_REG_RDI}
    for instruction in decoder.disasm(code, 0):
        if instruction.group(x86.X86_GRP_JUMP) or instruction.group(x86.X86_GRP_RET):
            return None
        if instruction.id not in (x86.X86_INS_MOV, x86.X86_INS_CMP):
            continue
        target, source = instruction.operands
        compared = instruction.id == x86.X86_INS_CMP and target.type == x86.X86_OP_MEM
        accessed = target if compared else source
        if accessed.type == x86.X86_OP_MEM and accessed.mem.base in holders:
            return _offset_in(accessed, size)
        if instruction.id == x86.X86_INS_MOV and target.type == x86.X86_OP_REG:
            copied = source.type == x86.X86_OP_REG and source.reg in holders
            holders = holders | {target.reg} if copied else holders - {target.reg}
    return None


def _offset_in(accessed: Any, size: int) -> int | None:
    """The offset that an operand (capstone.x86.X86Op) has from its base; None if it is no field of `size`
    bytes."""
    offset = int(accessed.mem.disp)
    is_field = accessed.size == size and not accessed.mem.index and 0 <= offset < LARGEST_OFFSET
    return offset if is_field else None
