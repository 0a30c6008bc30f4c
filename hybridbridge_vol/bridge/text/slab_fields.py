"""Where a `struct kmem_cache` has its objects' size and their constructor.

A cache of the snapshot's that the trusted kernel does not have (a module made it) is served from the trusted
kernel's memory all the same: so many bytes of it, constructed. Both fields are taken from the first access
to the cache of a small function that does nothing else: `kmem_cache_size` (mm/slab_common.c) and `ctor_show`
(mm/slub.c), so that no debug information is needed.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.bridge.text.first_field import first_field_of
from hybridbridge_vol.kernel_file.symbols import Symbols


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
        offset = None if vaddr is None else first_field_of(booted, vaddr - text_vaddr, size)
        if offset is None:
            return None
        offsets.append(offset)
    return SlabFields(*offsets)
