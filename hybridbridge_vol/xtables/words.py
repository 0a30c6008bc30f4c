"""How iptables-save writes values (iptables 1.8.9, libxtables/xtables.c)."""

from __future__ import annotations

import re
import struct

_PLAIN = re.compile(r"[A-Za-z0-9_./:*-]+")
EVERYTHING = 0xFFFFFFFF


def string(data: bytes) -> str:
    """A string, in quotes if it needs them (xtables_save_string)."""
    value = data.split(b"\0")[0].decode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(value):
        return value
    return '"' + re.sub(r"([\"'\\])", r"\\\1", value) + '"'


def span(low: int, high: int) -> str:
    """`80`, or `1000:2000`."""
    return str(low) if low == high else f"{low}:{high}"


def masked(value: int, mask: int, full: int = EVERYTHING) -> str:
    """`0x5/0xff`, without a mask that covers everything."""
    return f"{value:#x}" if mask == full else f"{value:#x}/{mask:#x}"


def option(name: str, value: str, inverted: bool | int = False) -> str:
    """`! --dport 80`."""
    return f"{'! ' if inverted else ''}--{name}{' ' if value else ''}{value}"


def words(*parts: str) -> str:
    """The parts that are not empty."""
    return " ".join(part for part in parts if part)


def u32s(data: bytes, count: int, offset: int = 0) -> tuple[int, ...]:
    """struct.error if they are not there."""
    return struct.unpack_from(f"<{count}I", data, offset)


def u16s(data: bytes, count: int, offset: int = 0) -> tuple[int, ...]:
    """struct.error if they are not there."""
    return struct.unpack_from(f"<{count}H", data, offset)


def names(bits: int, known: tuple[tuple[int, str], ...], separator: str = ",") -> str:
    """The names of bits, in the order of `known`."""
    return separator.join(name for bit, name in known if bits & bit)
