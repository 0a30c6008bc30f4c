"""The names of types of BTF by their numbers, without parsing the types (include/uapi/linux/btf.h, Linux
7.2)."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes that follow the 12 of a type, by its kind: INT, ARRAY, VAR, DECL_TAG."""
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""The same for each member: STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64."""


class BtfNames:
    """`data` is a .BTF section. With `base` its types, and its names, go on where those of `base` end."""

    def __init__(self, data: bytes, base: BtfNames | None = None) -> None:
        self._base = base
        self._offsets: list[int] = []
        self._text = b""
        self._first = 1 if base is None else base.count
        self._text_start = 0 if base is None else base.text_end
        if len(data) < _HEADER.size:
            return
        magic, _version, _flags, size, type_offset, type_size, text_offset, text_size = _HEADER.unpack_from(
            data
        )
        if magic != _MAGIC:
            return
        self._text = data[size + text_offset : size + text_offset + text_size]
        self._offsets = _name_offsets(data[size + type_offset : size + type_offset + type_size])

    @property
    def count(self) -> int:
        """The number that the next type would have."""
        return self._first + len(self._offsets)

    @property
    def text_end(self) -> int:
        return self._text_start + len(self._text)

    def name(self, number: int) -> str:
        """Empty for a type that is not there, or has no name."""
        if number < self._first:
            return "" if self._base is None else self._base.name(number)
        if number >= self.count:
            return ""
        return self._string(self._offsets[number - self._first])

    def _string(self, offset: int) -> str:
        if offset < self._text_start:
            return "" if self._base is None else self._base._string(offset)
        start = offset - self._text_start
        end = self._text.find(b"\0", start)
        return self._text[start:end].decode("latin-1") if 0 <= start < end else ""


def _name_offsets(types: bytes) -> list[int]:
    """Where the name of each type stands, in their order; up to one that is of an unknown kind or cut off."""
    found = []
    at, end = 0, len(types) - 12
    unpack = struct.Struct("<II").unpack_from
    fixed = [_FIXED.get(kind, 0) for kind in range(32)]
    each = [_EACH.get(kind, 0) for kind in range(32)]
    while at <= end:
        name, info = unpack(types, at)
        kind = info >> 24 & 31
        if not 1 <= kind <= 19:
            break
        found.append(name)
        at += 12 + fixed[kind] + each[kind] * (info & 0xFFFF)
    return found
