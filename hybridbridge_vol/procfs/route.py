"""The formats of /proc/net that list routes and neighbours: route, ipv6_route, arp, and the letters of their
flags. As in procfs/net_dev.py, names of interfaces are the only text in them, and hold no blank.

Sources: net/ipv4/fib_trie.c (fib_route_seq_show), net/ipv6/ip6_fib.c (ipv6_route_seq_show), net/ipv4/arp.c
(arp_format_neigh_entry), include/uapi/linux/route.h, ipv6_route.h and if_arp.h (Linux 5.10 to 6.12). The
letters are those of net-tools, whose `route` and `netstat -r` print them.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

RTF_UP, RTF_REJECT = 0x0001, 0x0200
_LETTERS = (
    (0x0002, "G"), (0x0004, "H"), (0x0008, "R"), (0x0010, "D"), (0x0020, "M"), (0x00010000, "d"),
    (0x00020000, "a"), (0x00040000, "c"), (0x00200000, "o"), (0x00400000, "e"), (0x01000000, "c"),
    (0x02000000, "f"),
)  # fmt: skip
_LETTERS6 = (
    (0x0002, "G"), (0x0004, "H"), (0x00010000, "D"), (0x00040000, "A"), (0x01000000, "C"), (0x00020000, "a"),
    (0x00400000, "e"), (0x0020, "m"), (0x00200000, "n"), (0x02000000, "f"),
)  # fmt: skip


class Route(NamedTuple):
    """One line of /proc/net/route or ipv6_route. Of IPv6, `mtu`, `window` and `irtt` are None."""

    interface: str
    destination: str
    prefix: int
    """Leading bits of the destination that count."""
    gateway: str
    flags: int
    references: int
    use: int
    metric: int
    mtu: int | None = None
    window: int | None = None
    irtt: int | None = None
    """Initial round trip time in 1/8 ms."""

    @property
    def letters(self) -> str:
        """The flags as `route` shows them: U up, G gateway, H host, ! rejected, …"""
        table = _LETTERS if self.mtu is not None else _LETTERS6
        first = "!" if self.flags & RTF_REJECT else "U" if self.flags & RTF_UP else ""
        return first + "".join(letter for bit, letter in table if self.flags & bit)


def parse_route(line: bytes) -> Route:
    """`Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT`, addresses in hexadecimal as
    the little-endian machine reads them. Raises ParseError."""
    fields = line.split()
    try:
        destination, gateway, mask = (bytes.fromhex(fields[at].decode())[::-1] for at in (1, 2, 7))
        return Route(
            text(fields[0]), address_text(destination), _prefix(mask), address_text(gateway),
            int(fields[3], 16), int(fields[4]), int(fields[5]), int(fields[6]), int(fields[8]),
            int(fields[9]), int(fields[10]),
        )  # fmt: skip
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/route: {line[:60]!r}") from None


def _prefix(mask: bytes) -> int:
    """The number of leading ones; ValueError if a one follows a zero, as in no mask that the kernel makes."""
    bits = f"{int.from_bytes(mask, 'big'):032b}"
    if "01" in bits:
        raise ValueError
    return bits.count("1")


def mask_text(prefix: int) -> str:
    """A prefix length of IPv4 as a mask."""
    return address_text((0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big"))


def parse_ipv6_route(line: bytes) -> Route:
    """Destination and its prefix length, source and its, next hop, metric, references, use, flags, all in
    hexadecimal, and the interface. Raises ParseError."""
    fields = line.split()
    try:
        metric = int(fields[5], 16)
        return Route(
            text(fields[9]), address_text(bytes.fromhex(fields[0].decode())), int(fields[1], 16),
            address_text(bytes.fromhex(fields[4].decode())), int(fields[8], 16), int(fields[6], 16),
            int(fields[7], 16),
            metric - (1 << 32) if metric >> 31 else metric,  # as the tools print it: -1 is the last resort
        )  # fmt: skip
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/ipv6_route: {line[:60]!r}") from None


class ArpEntry(NamedTuple):
    """One line of /proc/net/arp."""

    address: str
    hardware_type: int
    """ARPHRD_*: 1 Ethernet."""
    flags: int
    """ATF_*: 2 complete, 4 permanent, 8 published."""
    hardware_address: str
    mask: str
    interface: str


ATF_COM = 0x02
_ATF_LETTERS = ((ATF_COM, "C"), (0x04, "M"), (0x08, "P"), (0x10, "!"))
HARDWARE_TYPES = {
    0: "netrom",
    1: "ether",
    6: "ieee802",
    7: "arcnet",
    15: "dlci",
    24: "ieee1394",
    32: "infiniband",
    512: "ppp",
    772: "loopback",
    778: "gre",
}
"""Names that net-tools gives to hardware types which have neighbours."""


def parse_arp(line: bytes) -> ArpEntry:
    """`IP address, HW type, Flags, HW address, Mask, Device`. Raises ParseError."""
    fields = [text(field) for field in line.split()]  # bytes: at the blanks that no device's name may have
    try:
        address, kind, flags, hardware_address, mask, interface = fields
        return ArpEntry(address, int(kind, 16), int(flags, 16), hardware_address, mask, interface)
    except ValueError:
        raise ParseError(f"not in the form of /proc/net/arp: {line[:60]!r}") from None


def arp_letters(flags: int) -> str:
    """C complete, M permanent, P published, ! not published: as `arp -n` shows them."""
    return "".join(letter for bit, letter in _ATF_LETTERS if flags & bit)
