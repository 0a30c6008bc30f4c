"""What a register holds while a rule is read, and values as nft writes them."""

from __future__ import annotations

from dataclasses import dataclass

from hybridbridge_vol.netlink.nftables.data_types import IPV4, IPV6, TIME, DataType, Names, order, value_text
from hybridbridge_vol.netlink.nftables.messages import Data

_WORD = 4
VERDICTS = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -3: "jump", -4: "goto",
    -5: "return",
}  # fmt: skip
SIZES = {
    "ipv4_addr": 4, "ipv6_addr": 16, "ether_addr": 6, "ether_type": 2, "inet_proto": 1, "inet_service": 2,
    "icmp_type": 1, "icmpv6_type": 1, "icmp_code": 1, "icmpv6_code": 1, "tcp_flag": 1, "ifname": 16,
    "nf_proto": 1, "arp_op": 2, "pkt_type": 1, "ct_dir": 1, "dscp": 1, "ecn": 1, "boolean": 1,
    "iface_type": 2, "mh_type": 1, "dccp_pkttype": 1, "hour": 4, "day": 1, "igmp_type": 1,
}  # fmt: skip
"""Bytes of a value; 4 for all others."""


@dataclass(frozen=True)
class Part:
    """A value of one type: `text` is how the expression is written that gives it."""

    text: str
    type: DataType
    size: int
    """Bytes."""
    header: str = ""
    """The protocol whose field it is."""
    base: int = -1
    """Of a field or of a key of meta that stands for one: the layer."""
    start: int = 0
    """Of a field: bits from the beginning of its header; `bits` of them."""
    bits: int = 0
    origin: str = ""
    """payload, meta, ct ...: the kind of expression."""
    key: int = 0


@dataclass(frozen=True)
class Value:
    """What a register holds: parts that are joined, or constant data. `mask` and `xor` were applied."""

    parts: tuple[Part, ...] = ()
    data: Data | None = None
    mask: bytes | None = None
    xor: bytes | None = None
    suffix: str = ""
    """What was done besides, in nft's syntax: ` map @x`."""
    swapped: bool = False
    """A number of the machine's byte order was turned into one of the network's."""

    @property
    def text(self) -> str:
        return " . ".join(part.text for part in self.parts) + self.suffix

    @property
    def size(self) -> int:
        """Bytes in registers: each of several parts is filled up to whole words."""
        if len(self.parts) == 1:
            return self.parts[0].size
        return sum(padded(part.size) for part in self.parts)


def padded(size: int) -> int:
    """Bytes of whole registers."""
    return size + _WORD - 1 & -_WORD


def verdict_text(data: Data) -> str:
    """`jump other`."""
    word = VERDICTS.get(data.verdict, str(data.verdict))
    if data.verdict & 0xFF == 3 and data.verdict > 3:
        word = f"queue num {data.verdict >> 16}"
    return f"{word} {data.chain}" if data.chain else word


def size_of(kind: DataType) -> int:
    """Bytes of a value of a type."""
    return SIZES.get(kind.name, 4)


def split(data: bytes, kinds: list[tuple[DataType, int]]) -> list[bytes]:
    """The values of joined types (with their sizes in bytes) in a key."""
    if len(kinds) == 1:
        return [data]
    found = []
    at = 0
    for _kind, size in kinds:
        found.append(data[at : at + size])
        at += padded(size)
    return found


def values_text(data: bytes, kinds: list[tuple[DataType, int]], names: Names) -> str:
    """Joined values: `tcp . 22`."""
    parts = split(data, kinds)
    return " . ".join(value_text(kind, part, names) for (kind, _), part in zip(kinds, parts, strict=False))


def prefix_length(mask: bytes) -> int | None:
    """The length of a prefix that a mask stands for; None if it is none."""
    bits = f"{int.from_bytes(mask, 'big'):0{8 * len(mask)}b}"
    ones = bits.rstrip("0")
    return None if "0" in ones else len(ones)


def range_text(low: bytes, high: bytes, kind: DataType, names: Names) -> str:
    """Both ends included: one value, a prefix of addresses, or a range."""
    if low == high:
        return value_text(kind, low, names)
    if kind in (IPV4, IPV6):
        difference = bytes(a ^ b for a, b in zip(low, high, strict=False))
        length = prefix_length(bytes(255 - byte for byte in difference))
        if length is not None and not any(a & d for a, d in zip(low, difference, strict=False)):
            return f"{value_text(kind, low, names)}/{length}"
    if kind.name == "ifname":
        start = low.rstrip(b"\0")
        if high.startswith(start) and not high[len(start) :].strip(b"\xff"):
            return value_text(kind, start, names)
    if not kind.is_host and not any(low) and not high.strip(b"\xff"):
        return "*"
    return f"{_end_text(kind, low, names)}-{_end_text(kind, high, names)}"


_BY_NUMBER = frozenset((
    "inet_proto", "icmp_type", "icmpv6_type", "icmp_code", "icmpv6_code", "icmpx_code", "ether_type",
    "arp_op",
    "mh_type", "dccp_pkttype", "igmp_type", "dscp", "ecn", "pkt_type", "nf_proto", "iface_type",
    "fib_addrtype",
))  # fmt: skip
"""Types whose values are numbers at the ends of a range."""


def _end_text(kind: DataType, data: bytes, names: Names) -> str:
    if kind is TIME:
        return f"{order(data, True) // 1000}s"
    if kind.name in _BY_NUMBER:
        return str(order(data, kind.is_host))
    return value_text(kind, data, names)
