"""Directories as getdents64(2) writes them: `struct linux_dirent64` (include/linux/dirent.h)."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

_HEAD = struct.Struct("<QqHB")
_SHORTEST = 24
"""Bytes of an entry at the least."""


def dirents(entries: Iterable[tuple[str, int, int]]) -> bytes:
    """A directory of `(name, inode, mode)`, and of itself and its parent."""
    found = bytearray()
    for name, ino, mode in ((".", 1, stat.S_IFDIR), ("..", 1, stat.S_IFDIR), *entries):
        encoded = os.fsencode(name) + b"\0"
        size = (_HEAD.size + len(encoded) + 7) & ~7
        found += (_HEAD.pack(ino or 1, 0, size, stat.S_IFMT(mode) >> 12) + encoded).ljust(size, b"\0")
    return bytes(found)


def renumbered(data: bytes | bytearray) -> bytes:
    """The same with each entry's `d_off`, the position behind it, as an offset in these bytes. What follows
    an entry that makes no sense is cut off."""
    found, at = bytearray(data), 0
    while at + _SHORTEST <= len(found):
        size = _HEAD.unpack_from(found, at)[2]
        if size < _SHORTEST or at + size > len(found):
            break
        struct.pack_into("<q", found, at + 8, at + size)
        at += size
    return bytes(found[:at])


def whole_entries(data: bytes) -> int:
    """Bytes of the entries that these bytes hold in full."""
    at = 0
    while at + _SHORTEST <= len(data):
        size = _HEAD.unpack_from(data, at)[2]
        if size < _SHORTEST or at + size > len(data):
            break
        at += size
    return at
