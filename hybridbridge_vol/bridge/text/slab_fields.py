"""Where a `struct kmem_cache` has its objects' size and their constructor.

A cache of the snapshot's that the trusted kernel does not have (a module made it) is served from the trusted
kernel's memory all the same: so many bytes of it, constructed. Both fields are taken from the first access
to the cache of a small function that does nothing else: `kmem_cache_size` (mm/slab_common.c) and `ctor_show`
(mm/slub.c), so that no debug information is needed.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.kernel_file.symbols import Symbols

_CODE_SIZE = 64
"""Bytes of a function that are searched for the access."""
LARGEST_OFFSET = 512


class SlabFields(NamedTuple):
    """Byte offsets in a `struct kmem_cache`: of the 32-bit `object_size`, and of the pointer `ctor`."""

    object_size: int
    constructor: int


def read_slab_fields(booted: memoryview, symbols: Symbols, text_vaddr: int) -> SlabFields | None:
    """The fields in a kernel whose memory `booted` begins at `_text`; None if they cannot be told.

    `symbols` are link-time virtual addresses, `text_vaddr` that of `_text`.
    """
    offsets = []
    for name, size in (("kmem_cache_size", 4), ("ctor_show", 8)):
        vaddr = symbols.get(name)
        start = 0 if vaddr is None else vaddr - text_vaddr
        offset = first_field(bytes(booted[start : start + _CODE_SIZE]), size) if start > 0 else None
        if offset is None:
            return None
        offsets.append(offset)
    return SlabFields(*offsets)


def first_field(code: bytes, size: int) -> int | None:
    """The offset from its first argument of the first field of `size` bytes that a function loads; None if it
    loads none before it branches. The argument may have been copied to another register."""
    import capstone  # 40 ms, and only a kernel that is prepared needs it
    from capstone import x86_const as x86

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    holders = {x86.X86_REG_RDI}
    for instruction in decoder.disasm(code, 0):
        if instruction.group(x86.X86_GRP_JUMP) or instruction.group(x86.X86_GRP_RET):
            return None
        if instruction.id != x86.X86_INS_MOV:
            continue
        target, source = instruction.operands
        if source.type == x86.X86_OP_MEM and source.mem.base in holders:
            offset = int(source.mem.disp)
            is_field = source.size == size and not source.mem.index and 0 < offset < LARGEST_OFFSET
            return offset if is_field else None
        if target.type == x86.X86_OP_REG:
            copied = source.type == x86.X86_OP_REG and source.reg in holders
            holders = holders | {target.reg} if copied else holders - {target.reg}
    return None
