"""Generic netlink: the number of a family by its name (include/uapi/linux/genetlink.h)."""

from __future__ import annotations

import struct

from hybridbridge_vol.netlink.messages import attributes, messages
from hybridbridge_vol.netlink.requests import NETLINK_GENERIC, NetlinkRequest

GENL_ID_CTRL, _GETFAMILY = 16, 3
_FAMILY_ID, _FAMILY_NAME = 1, 2
HEAD_SIZE = 4
"""Bytes of struct genlmsghdr: command, version, reserved."""
FAMILIES = NetlinkRequest(
    "genetlink families", NETLINK_GENERIC, GENL_ID_CTRL, struct.pack("<BBH", _GETFAMILY, 1, 0)
)


def family_number(data: bytes, name: str) -> int | None:
    """The number of a family in the answer to `FAMILIES`; None if it is not registered."""
    return next((number for number, known in family_names(data).items() if known == name.encode()), None)


def family_names(data: bytes) -> dict[int, bytes]:
    """The families in the answer to `FAMILIES`, by their numbers."""
    names: dict[int, bytes] = {}
    for message in messages(data):
        if message.kind != GENL_ID_CTRL:
            continue
        found = attributes(message.body[HEAD_SIZE:])
        number = int.from_bytes(found.get(_FAMILY_ID, b""), "little")
        names.setdefault(number, found.get(_FAMILY_NAME, b"").split(b"\0")[0])
    return names
