"""Attributes of netlink messages as text: each by its name, and those without a known one by their number.

A schema names the attributes of one message in the order of their numbers, from 1 on, as `name:form`. The
names are those of iproute2's JSON where it has one. What a message holds and its schema does not name is
shown as `attribute 31: 0a00`: nothing is left out but padding (`-`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping

from hybridbridge_vol.netlink.messages import attribute_list
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

Attributes = tuple[tuple[int, bytes], ...]
"""Type and content of attributes, as a message has them."""
Names = Callable[[int], str]
"""The name of an interface by its index."""
Form = Callable[[bytes, Names], str]
Pairs = list[tuple[str, str]]
"""Names and values."""


class Schema:
    """See the module's text. `forms` are forms of its own, besides `FORMS`."""

    def __init__(self, words: str, forms: Mapping[str, Form] | None = None) -> None:
        known = FORMS | dict(forms or {})
        pairs = [word.partition(":") for word in words.split()]
        self._named = {
            number: (name, known[form or "u"])
            for number, (name, _, form) in enumerate(pairs, 1)
            if name != "-"
        }
        self._padding = {number for number, (name, _, _form) in enumerate(pairs, 1) if name == "-"}

    def pairs(self, found: Iterable[tuple[int, bytes]], names: Names) -> Pairs:
        """The attributes with their names."""
        shown = []
        for number, data in found:
            if number in self._padding:
                continue
            name, form = self._named.get(number, (f"attribute {number}", _raw))
            try:
                shown.append((name, form(data, names)))
            except (ValueError, struct.error, IndexError):
                shown.append((name, _raw(data, names)))
        return shown


def nested(schema: Schema) -> Form:
    """The form of an attribute that holds attributes."""

    def form(data: bytes, names: Names) -> str:
        return "{" + joined(schema.pairs(attribute_list(data), names), ", ") + "}"

    return form


def one_of(*values: str, first: int = 0) -> Form:
    """The form of a number that stands for a word; an unknown one is shown as it is."""

    def form(data: bytes, _names: Names) -> str:
        number = int.from_bytes(data, "little")
        return values[number - first] if 0 <= number - first < len(values) else str(number)

    return form


def joined(pairs: Pairs, separator: str = "; ") -> str:
    """`name: value; name: value`."""
    return separator.join(f"{name}: {value}" for name, value in pairs)


def _raw(data: bytes, _names: Names) -> str:
    return data.hex() or "(empty)"


def _number(data: bytes, _names: Names) -> str:
    return str(int.from_bytes(data, "little"))


def _signed(data: bytes, _names: Names) -> str:
    return str(int.from_bytes(data, "little", signed=True))


def _big(data: bytes, _names: Names) -> str:
    return str(int.from_bytes(data, "big"))


def _hexadecimal(data: bytes, _names: Names) -> str:
    return hex(int.from_bytes(data, "little"))


def _address(data: bytes, _names: Names) -> str:
    return address_text(data)


def _hardware(data: bytes, _names: Names) -> str:
    """One of 4 or 16 bytes is that of a tunnel's end."""
    return address_text(data) if len(data) in (4, 16) else ":".join(f"{byte:02x}" for byte in data)


def _string(data: bytes, _names: Names) -> str:
    return text(data.split(b"\0")[0])


def _interface(data: bytes, names: Names) -> str:
    ifindex = int.from_bytes(data, "little")
    return names(ifindex) if ifindex else "none"


def _boolean(data: bytes, _names: Names) -> str:
    return "true" if any(data) else "false"


def _flag(_data: bytes, _names: Names) -> str:
    return "true"


def _ethernet(data: bytes, _names: Names) -> str:
    number = int.from_bytes(data, "big")
    return {0x8100: "802.1Q", 0x88A8: "802.1ad"}.get(number, f"{number:#06x}")


def _hundredths(data: bytes, _names: Names) -> str:
    return f"{int.from_bytes(data, 'little') / 100:.2f}"


def _port_range(data: bytes, _names: Names) -> str:
    return "-".join(map(str, struct.unpack(">HH", data[:4])))


FORMS: dict[str, Form] = {
    "u": _number, "d": _signed, "be": _big, "x": _hexadecimal, "ip": _address, "mac": _hardware, "s": _string,
    "if": _interface, "b": _boolean, "f": _flag, "eth": _ethernet, "t": _hundredths, "ports": _port_range,
    "raw": _raw,
}  # fmt: skip
