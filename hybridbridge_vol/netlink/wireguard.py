"""WireGuard interfaces and their peers, as the kernel answers generic netlink
(include/uapi/linux/wireguard.h; Linux 5.10 to 7.2)."""

from __future__ import annotations

import base64
import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.generic import HEAD_SIZE
from hybridbridge_vol.netlink.messages import attribute_list, attributes
from hybridbridge_vol.netlink.requests import NETLINK_GENERIC, NetlinkRequest
from hybridbridge_vol.procfs.net import Endpoint, address_text
from hybridbridge_vol.procfs.pid import text

FAMILY = "wireguard"
_GET_DEVICE, _IFNAME = 0, 2
MOST_PEERS = 1 << 16
"""Of one interface in one message."""
_AF_INET, _AF_INET6 = 2, 10


class Peer(NamedTuple):
    """Keys in base64, as wg writes them; `handshake` in seconds since the epoch, None if there was none."""

    public_key: str
    preshared_key: str | None
    endpoint: Endpoint | None
    handshake: float | None
    received: int
    sent: int
    keepalive: int
    allowed: tuple[str, ...]


class Device(NamedTuple):
    """An interface; an answer of several messages repeats it with more of its peers."""

    ifindex: int
    name: str
    private_key: str | None
    public_key: str | None
    port: int
    fwmark: int
    peers: tuple[Peer, ...]


def request(family: int, name: str) -> NetlinkRequest:
    """The request for an interface; `family` is the number of the family `FAMILY`."""
    encoded = name.encode("utf-8", "surrogateescape") + b"\0"
    body = struct.pack("<BBH", _GET_DEVICE, 1, 0) + struct.pack("<HH", 4 + len(encoded), _IFNAME)
    return NetlinkRequest(
        f"wireguard {name}", NETLINK_GENERIC, family, body + encoded + bytes(-len(encoded) % 4)
    )


def key_text(data: bytes | None) -> str | None:
    """A key in base64; None for one of zeros, which is none."""
    return base64.b64encode(data).decode() if data and any(data) else None


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "little")


def parse_device(body: bytes) -> Device:
    """Raises struct.error or ValueError."""
    found = attributes(body[HEAD_SIZE:])
    if 1 not in found:
        raise ValueError("no interface")
    peers = [_peer(data) for _kind, data in list(attribute_list(found.get(8, b"")))[:MOST_PEERS]]
    return Device(
        _number(found[1]), text(found.get(2, b"").split(b"\0")[0]), key_text(found.get(3)),
        key_text(found.get(4)),
        _number(found.get(6)), _number(found.get(7)), tuple(peers),
    )  # fmt: skip


def _peer(data: bytes) -> Peer:
    found = attributes(data)
    seconds, nanoseconds = struct.unpack_from("<qq", found[6]) if len(found.get(6, b"")) >= 16 else (0, 0)
    allowed = [_network(part) for _kind, part in list(attribute_list(found.get(9, b"")))[:MOST_PEERS]]
    return Peer(
        key_text(found.get(1)) or "", key_text(found.get(2)), _endpoint(found.get(4)),
        seconds + nanoseconds / 1e9 if seconds or nanoseconds else None, _number(found.get(7)),
        _number(found.get(8)),
        _number(found.get(5)), tuple(allowed),
    )  # fmt: skip


def _endpoint(data: bytes | None) -> Endpoint | None:
    """struct sockaddr_in or sockaddr_in6."""
    if not data or len(data) < 8:
        return None
    family, port = struct.unpack_from("<H", data)[0], struct.unpack_from(">H", data, 2)[0]
    if family == _AF_INET:
        return Endpoint(address_text(data[4:8]), port)
    return Endpoint(address_text(data[8:24]), port) if family == _AF_INET6 and len(data) >= 24 else None


def _network(data: bytes) -> str:
    found = attributes(data)
    address = found.get(2, b"")
    return f"{address_text(address) if len(address) in (4, 16) else '?'}/{_number(found.get(3))}"
