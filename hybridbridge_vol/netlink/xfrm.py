"""Security associations and policies of IPsec, as xfrm_user answers them (include/uapi/linux/xfrm.h; Linux
5.10 to 7.2)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.messages import attributes
from hybridbridge_vol.netlink.nftables.protocol_numbers import PROTOCOLS
from hybridbridge_vol.netlink.requests import NETLINK_XFRM, NetlinkRequest
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

NEWSA, _GETSA, NEWPOLICY, _GETPOLICY = 16, 18, 19, 21
_MODULES = ("xfrm_algo", "xfrm_user")
STATES = NetlinkRequest("xfrm state", NETLINK_XFRM, _GETSA, b"", _MODULES)
POLICIES = NetlinkRequest("xfrm policy", NETLINK_XFRM, _GETPOLICY, b"", _MODULES)
_AF_INET = 2
_SELECTOR = struct.Struct("<16s16s2s2s2s2sHBBB3xiI")
_LIFETIME, _CURRENT = struct.Struct("<8Q"), struct.Struct("<4Q")
_STATE_SIZE, _POLICY_SIZE, _TEMPLATE_SIZE = 224, 164, 64
MODES = ("transport", "tunnel", "ro", "in_trigger", "beet", "iptfs")
STATE_FLAGS = (
    (1, "noecn"), (2, "decap-dscp"), (4, "nopmtudisc"), (8, "wildrecv"), (16, "icmp"), (32, "af-unspec"),
    (64, "align4"), (128, "esn"),
)  # fmt: skip
_LIMITS = (
    "soft-bytes", "hard-bytes", "soft-packets", "hard-packets", "soft-add-seconds", "hard-add-seconds",
    "soft-use-seconds", "hard-use-seconds",
)  # fmt: skip
_INFINITE = 0xFFFFFFFFFFFFFFFF
MOST_TEMPLATES = 6
"""XFRM_MAX_DEPTH."""
_ENCAPSULATIONS = {1: "espinudp-nonike", 2: "espinudp", 7: "espintcp"}
_KNOWN_OF_STATE = {1, 2, 3, 4, 10, 13, 15, 18, 20, 21, 23, 24, 27, 31, 33}
_KNOWN_OF_POLICY = {5, 16, 21, 27, 31}


def _address(data: bytes, family: int) -> str:
    return address_text(data[:4] if family == _AF_INET else data[:16])


class Algorithm(NamedTuple):
    """`key` as the kernel has it; `bits` of the result that are sent, 0 where that is not said."""

    kind: str
    name: str
    key: bytes
    bits: int

    def text(self, secrets: bool) -> str:
        """With its key only if `secrets`."""
        key = f" 0x{self.key.hex()}" if self.key else ""
        shown = key if secrets or not key else f" ({8 * len(self.key)} bits, hidden)"
        return f"{self.kind} {self.name}{shown}" + (f" {self.bits}" if self.bits else "")


class Lifetime(NamedTuple):
    """Times in seconds since the epoch, 0 for never."""

    bytes: int
    packets: int
    added: int
    used: int


class State(NamedTuple):
    """struct xfrm_usersa_info and what follows it."""

    source: str
    destination: str
    protocol: str
    spi: int
    reqid: int
    mode: str
    family: int
    flags: int
    replay_window: int
    selector: str
    algorithms: tuple[Algorithm, ...]
    encapsulation: str | None
    mark: tuple[int, int] | None
    interface: int | None
    limits: str
    lifetime: Lifetime
    failures: tuple[int, int, int]
    rest: tuple[tuple[int, bytes], ...]


class Policy(NamedTuple):
    """struct xfrm_userpolicy_info and what follows it."""

    selector: str
    direction: str
    action: str
    priority: int
    number: int
    flags: int
    is_sub: bool
    templates: tuple[str, ...]
    mark: tuple[int, int] | None
    interface: int | None
    limits: str
    lifetime: Lifetime
    rest: tuple[tuple[int, bytes], ...]


def _selector(data: bytes, family: int) -> str:
    """`src 10.0.0.0/16 dst 10.1.0.0/16 proto tcp dport 22`."""
    (
        target,
        origin,
        dport,
        dmask,
        sport,
        smask,
        own,
        target_length,
        origin_length,
        protocol,
        ifindex,
        _user,
    ) = _SELECTOR.unpack_from(data)
    family = own or family
    words = [
        f"src {_address(origin, family)}/{origin_length}",
        f"dst {_address(target, family)}/{target_length}",
    ]
    if protocol:
        words.append(f"proto {PROTOCOLS.get(protocol, protocol)}")
    for name, port, mask in (("sport", sport, smask), ("dport", dport, dmask)):
        if any(mask):
            number, bits = int.from_bytes(port, "big"), int.from_bytes(mask, "big")
            words.append(f"{name} {number}" + (f"/{bits:#x}" if bits != 0xFFFF else ""))
    return " ".join(words + [f"dev {ifindex}"] * bool(ifindex))


def _limits(data: bytes, offset: int) -> str:
    values = _LIFETIME.unpack_from(data, offset)
    pairs = zip(_LIMITS, values, strict=True)
    return " ".join(f"{name} {value}" for name, value in pairs if value not in (0, _INFINITE))


def _algorithm(kind: str, data: bytes, has_length: bool) -> Algorithm:
    """struct xfrm_algo, xfrm_algo_auth or xfrm_algo_aead."""
    (key_bits,) = struct.unpack_from("<I", data, 64)
    bits = struct.unpack_from("<I", data, 68)[0] if has_length else 0
    start = 72 if has_length else 68
    return Algorithm(kind, text(data[:64].split(b"\0")[0]), data[start : start + (key_bits + 7) // 8], bits)


def _algorithms(found: dict[int, bytes]) -> tuple[Algorithm, ...]:
    authentication = ("auth-trunc", 20, True) if 20 in found else ("auth", 1, False)
    kinds = (authentication, ("enc", 2, False), ("aead", 18, True), ("comp", 3, False))
    return tuple(_algorithm(kind, found[at], has_length) for kind, at, has_length in kinds if at in found)


def _mark(data: bytes | None) -> tuple[int, int] | None:
    return None if data is None else struct.unpack_from("<II", data)


def _interface(data: bytes | None) -> int | None:
    return None if data is None else int.from_bytes(data, "little")


def _encapsulation(data: bytes | None) -> str | None:
    if data is None:
        return None
    kind, sport, dport = struct.unpack_from("<HHH", data)
    ports = (int.from_bytes(struct.pack("<H", port), "big") for port in (sport, dport))
    return " ".join([f"{_ENCAPSULATIONS.get(kind, kind)}", *map(str, ports)])


def parse_state(body: bytes) -> State:
    """Raises struct.error or ValueError."""
    if len(body) < _STATE_SIZE:
        raise struct.error("struct xfrm_usersa_info is cut off")
    found = attributes(body[_STATE_SIZE:])
    window, replays, failed, _sequence, reqid, family, mode, replay, flags = struct.unpack_from(
        "<5IHBBB", body, 192
    )
    (spi,) = struct.unpack_from(">I", body, 72)
    if 23 in found and len(found[23]) >= 24:
        replay = struct.unpack_from("<I", found[23], 20)[0]
    return State(
        _address(body[80:96], family), _address(body[56:72], family), PROTOCOLS.get(body[76],
        str(body[76])), spi,
        reqid, MODES[mode] if mode < len(MODES) else str(mode), family, flags, replay, _selector(body,
        family),
        _algorithms(found), _encapsulation(found.get(4)), _mark(found.get(21)), _interface(found.get(31)),
        _limits(body, 96), Lifetime(*_CURRENT.unpack_from(body, 160)), (window, replays, failed),
        tuple((kind, data) for kind, data in found.items() if kind not in _KNOWN_OF_STATE),
    )  # fmt: skip


def _template(data: bytes, offset: int) -> str:
    """struct xfrm_user_tmpl."""
    target, spi, protocol, family = struct.unpack_from("<16s4sB3xH", data, offset)
    origin, reqid, mode, _share, optional = struct.unpack_from("<16sIBBB", data, offset + 28)
    words = [
        f"src {_address(origin, family)}", f"dst {_address(target, family)}",
        f"proto {PROTOCOLS.get(protocol, protocol)}",
    ]  # fmt: skip
    words += [f"spi 0x{spi.hex()}"] * any(spi)
    words += [f"reqid {reqid}", f"mode {MODES[mode] if mode < len(MODES) else mode}"]
    return " ".join(words + ["level use"] * bool(optional))


def parse_policy(body: bytes) -> Policy:
    """Raises struct.error or ValueError."""
    if len(body) < _POLICY_SIZE:
        raise struct.error("struct xfrm_userpolicy_info is cut off")
    priority, index, direction, action, flags = struct.unpack_from("<IIBBB", body, 152)
    found = attributes(body[_POLICY_SIZE + 4 :])
    templates = found.get(5, b"")
    count = min(len(templates) // _TEMPLATE_SIZE, MOST_TEMPLATES)
    return Policy(
        _selector(body, _AF_INET), {0: "in", 1: "out", 2: "fwd"}.get(direction, f"socket {direction}"),
        {0: "allow", 1: "block"}.get(action, str(action)), priority, index, flags,
        found.get(16, b"\0")[:1] == b"\1",
        tuple(_template(templates, number * _TEMPLATE_SIZE) for number in range(count)), _mark(found.get(21)),
        _interface(found.get(31)), _limits(body, 56), Lifetime(*_CURRENT.unpack_from(body, 120)),
        tuple((kind, data) for kind, data in found.items() if kind not in _KNOWN_OF_POLICY),
    )  # fmt: skip
