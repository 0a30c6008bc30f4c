"""BTF: the description of its own types that a kernel carries (CONFIG_DEBUG_INFO_BTF).

include/uapi/linux/btf.h and Documentation/bpf/btf.rst of Linux 6.12. Between the kernel's symbols
`__start_BTF` and `__stop_BTF` lie a header, the types one after the other, and a table of names. A type's
number is its position in that order, from 1 on; number 0 is `void`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.symbols import Symbols

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC, _VERSION = 0xEB9F, 1
_TYPE = struct.Struct("<III")
_MAX_TYPES = 1 << 20
"""A kernel has 100,000 to 200,000."""
_MAX_CHAIN = 64
"""Typedefs and qualifiers that lead to one another; real chains have fewer than ten."""


class Kind(IntEnum):
    """`BTF_KIND_*`."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


ALIASES = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
"""Kinds that only name or qualify another type."""

_ENTRIES = {
    Kind.INT: "I", Kind.ARRAY: "III", Kind.STRUCT: "III", Kind.UNION: "III", Kind.ENUM: "Ii",
    Kind.FUNC_PROTO: "II", Kind.VAR: "I", Kind.DATASEC: "III", Kind.DECL_TAG: "i", Kind.ENUM64: "III",
}  # fmt: skip
"""What follows the 12 bytes of a type: one entry, or one for each of its members."""
_REPEATED = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FUNC_PROTO, Kind.DATASEC, Kind.ENUM64)


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a struct or union. `bit_offset` from its start; `bits` is the width of a bit field,
    otherwise 0."""

    name: str
    type: int
    bit_offset: int
    bits: int


@dataclass(frozen=True, slots=True)
class BtfType:
    """One type. `size` in bytes (of INT, FLOAT, STRUCT, UNION, ENUM, ENUM64); `type` is the number of the
    type that it refers to.

    `flag` depends on the kind: ENUM and ENUM64 are signed, FWD is a union. `count` is the number of elements
    of an ARRAY. `encoding` of an INT: bits 24-27 are SIGNED 1, CHAR 2, BOOL 4; bits 16-23 the offset and bits
    0-7 the number of its bits.
    """

    kind: Kind
    name: str
    size: int = 0
    type: int = 0
    flag: bool = False
    count: int = 0
    encoding: int = 0
    members: tuple[Member, ...] = ()
    constants: tuple[tuple[str, int], ...] = ()


class Btf:
    """All types, by number."""

    def __init__(self, types: list[BtfType]) -> None:
        self.types = types

    def __getitem__(self, number: int) -> BtfType:
        """The type of a number; `void` for a number that no type has."""
        return self.types[number] if 0 <= number < len(self.types) else self.types[0]

    def plain(self, number: int) -> int:
        """The number of the type that typedefs and qualifiers lead to; 0 where they are cyclic."""
        for _ in range(_MAX_CHAIN):
            if self[number].kind not in ALIASES:
                return number if number < len(self.types) else 0
            number = self[number].type
        return 0


def parse_btf(data: bytes, name: str) -> Btf:
    """Parse a `.BTF` section. KernelFileError, naming the file `name`, if it is damaged."""
    damaged = KernelFileError(f"{name}: its type information (BTF) is damaged; fetch it again")
    if len(data) < _HEADER.size:
        raise damaged
    magic, version, _flags, header_size, type_offset, type_size, text_offset, text_size = _HEADER.unpack_from(
        data
    )
    start = header_size + type_offset
    text_start = header_size + text_offset
    if (magic, version) != (_MAGIC, _VERSION) or max(start + type_size, text_start + text_size) > len(data):
        raise damaged
    text = data[text_start : text_start + text_size]
    types = [BtfType(Kind.VOID, "void")]
    at, end = start, start + type_size
    while at < end:
        if at + _TYPE.size > end or len(types) > _MAX_TYPES:
            raise damaged
        name_offset, info, size_or_type = _TYPE.unpack_from(data, at)
        at += _TYPE.size
        number, members, flag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
        if number not in Kind._value2member_map_ or number == Kind.VOID:
            raise KernelFileError(
                f"{name}: its type information (BTF) has a type of an unknown kind ({number})"
            )
        kind = Kind(number)
        entry = struct.Struct("<" + _ENTRIES.get(kind, ""))
        count = members if kind in _REPEATED else 1
        if at + entry.size * count > end:
            raise damaged
        rows = [entry.unpack_from(data, at + entry.size * i) for i in range(count)] if entry.size else []
        at += entry.size * count
        types.append(_type(kind, _text(text, name_offset), size_or_type, flag, rows, text))
    return Btf(types)


def btf_range(symbols: Symbols) -> tuple[int, int] | None:
    """The link-time virtual addresses of the begin and the end of `.BTF` (include/asm-generic/vmlinux.lds.h);
    None if the kernel was built without."""
    start, stop = symbols.get("__start_BTF"), symbols.get("__stop_BTF")
    return None if start is None or stop is None or stop <= start else (start, stop)


def _type(
    kind: Kind, name: str, size_or_type: int, flag: bool, rows: list[tuple[int, ...]], text: bytes
) -> BtfType:
    if kind is Kind.INT:
        return BtfType(kind, name, size_or_type, encoding=rows[0][0])
    if kind is Kind.FLOAT:
        return BtfType(kind, name, size_or_type)
    if kind is Kind.ARRAY:
        return BtfType(kind, name, type=rows[0][0], count=rows[0][2])
    if kind in (Kind.STRUCT, Kind.UNION):
        members = tuple(
            # with the flag, the upper 8 bits are a bit field's width
            Member(_text(text, at), type_, offset & 0xFFFFFF if flag else offset, offset >> 24 if flag else 0)
            for at, type_, offset in rows
        )
        return BtfType(kind, name, size_or_type, members=members)
    if kind is Kind.ENUM:
        constants = tuple((_text(text, at), value if flag else value & 0xFFFFFFFF) for at, value in rows)
        return BtfType(kind, name, size_or_type, flag=flag, constants=constants)
    if kind is Kind.ENUM64:
        constants = tuple((_text(text, at), _signed(high << 32 | low, flag)) for at, low, high in rows)
        return BtfType(kind, name, size_or_type, flag=flag, constants=constants)
    return BtfType(kind, name, type=size_or_type, flag=flag)


def _signed(value: int, signed: bool) -> int:
    return value - (1 << 64) if signed and value >> 63 else value


def _text(text: bytes, offset: int) -> str:
    end = text.find(b"\0", offset)
    return text[offset:end].decode("latin-1") if 0 <= offset < end else ""
