"""The table of a kernel's static branches (struct jump_entry, include/linux/jump_label.h).

An entry has the places of code, target and key: two 32-bit distances and a 64-bit one, or, before 4.20 on
x86, three addresses. Distances are counted from their own field. The two lowest bits of the key are flags.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.units import START_KERNEL_MAP

_DISTANCES, _ADDRESSES = struct.Struct("<iiq"), struct.Struct("<QQQ")
_FLAGS = 3


class JumpEntry(NamedTuple):
    """Offsets in the memory that was read, which begins at `_text`; `flags`: the key's lowest two bits."""

    code: int
    target: int
    key: int
    flags: int


def jump_entries(
    memory: memoryview | bytes | bytearray, start: int, stop: int, text_vaddr: int
) -> Iterator[JumpEntry]:
    """The entries of the table at offsets `[start, stop)` of `memory`, which lies at the virtual address
    `text_vaddr`; unchecked."""
    if _are_addresses(memory, start, stop):
        for entry in range(start, stop - _ADDRESSES.size + 1, _ADDRESSES.size):
            code, target, key = _ADDRESSES.unpack_from(memory, entry)
            yield JumpEntry(
                code - text_vaddr, target - text_vaddr, (key & ~_FLAGS) - text_vaddr, key & _FLAGS
            )
        return
    for entry in range(start, stop - _DISTANCES.size + 1, _DISTANCES.size):
        code, target, key = _DISTANCES.unpack_from(memory, entry)
        yield JumpEntry(entry + code, entry + 4 + target, entry + 8 + (key & ~_FLAGS), key & _FLAGS)


def _are_addresses(memory: memoryview | bytes | bytearray, start: int, stop: int) -> bool:
    """Whether the first entry is three addresses of the kernel. Two distances are none: the second would be
    -1."""
    if stop - start < _ADDRESSES.size:
        return False
    return all(word >= START_KERNEL_MAP for word in _ADDRESSES.unpack_from(memory, start))
