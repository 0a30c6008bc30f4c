"""Bytes by their type of BTF, as one line: `{pid: 7, cookie: 12}`."""

from __future__ import annotations

from hybridbridge_vol.kernel_file.btf import Btf, BtfType, Kind, Member

MOST_DEPTH = 16
MOST_ELEMENTS = 4096
"""Elements of an array that are shown."""
_SIGNED, _CHAR, _BOOL = 1, 2, 4
"""Encoding of an integer (include/uapi/linux/btf.h)."""


def typed(types: Btf, number: int, data: bytes, depth: int = 0) -> str:
    """A value; hexadecimal where its type cannot be shown."""
    one = types[types.plain(number)]
    if depth > MOST_DEPTH:
        return data.hex()
    if one.kind is Kind.INT:
        return _integer(one, data[: one.size])
    if one.kind in (Kind.ENUM, Kind.ENUM64):
        value = int.from_bytes(data[: one.size], "little", signed=one.flag)
        return next((name for name, constant in one.constants if constant == value), str(value))
    if one.kind in (Kind.STRUCT, Kind.UNION):
        fields = (f"{member.name or '?'}: {_member(types, member, data, depth)}" for member in one.members)
        return "{" + ", ".join(fields) + "}"
    if one.kind is Kind.ARRAY:
        return _array(types, one, data, depth)
    if one.kind is Kind.PTR:
        return f"{int.from_bytes(data[:8], 'little'):#x}"
    return data.hex()


def _integer(one: BtfType, data: bytes) -> str:
    encoding = one.encoding >> 24
    value = int.from_bytes(data, "little", signed=bool(encoding & _SIGNED))
    return ("true" if value else "false") if encoding & _BOOL else str(value)


def _member(types: Btf, member: Member, data: bytes, depth: int) -> str:
    inner = types[types.plain(member.type)]
    bits = member.bits or (inner.encoding & 0xFF if inner.kind is Kind.INT else 0)
    if member.bits or member.bit_offset % 8:
        whole = int.from_bytes(data, "little") >> member.bit_offset & (1 << bits) - 1
        return str(whole)
    return typed(types, member.type, data[member.bit_offset // 8 :], depth + 1)


def size_of(types: Btf, number: int, depth: int = 0) -> int:
    """Bytes of a type; 0 where it has no size."""
    one = types[types.plain(number)]
    if one.kind is Kind.ARRAY and depth <= MOST_DEPTH:
        return one.count * size_of(types, one.type, depth + 1)
    return 8 if one.kind is Kind.PTR else one.size


def _array(types: Btf, one: BtfType, data: bytes, depth: int) -> str:
    size = size_of(types, one.type)
    element = types[types.plain(one.type)]
    if not size:
        return "[]"
    whole = data[: min(one.count, MOST_ELEMENTS) * size]
    if element.kind is Kind.INT and size == 1 and (element.encoding >> 24 & _CHAR or element.name == "char"):
        return repr(whole.split(b"\0")[0].decode("utf-8", "backslashreplace"))
    parts = [typed(types, one.type, whole[at : at + size], depth + 1) for at in range(0, len(whole), size)]
    return "[" + ", ".join(parts) + "]"
