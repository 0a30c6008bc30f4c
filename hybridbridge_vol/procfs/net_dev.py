"""The formats of /proc/net that list interfaces, addresses, counters and groups: dev, if_inet6, snmp, snmp6,
igmp.

Sources: net/core/net-procfs.c, net/ipv6/addrconf.c (if6_seq_show), net/ipv4/proc.c, net/ipv6/proc.c,
net/ipv4/igmp.c, net/ipv6/mcast.c, include/uapi/linux/if.h (Linux 5.10 to 6.12).

The only text that anybody chooses are names of interfaces, in which the kernel allows no blank, no line end,
no slash and no colon (net/core/dev.c, `dev_valid_name`): these files are split at the kernel's blanks, as
bytes, because Python's text knows more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source

IFF_UP, IFF_BROADCAST, IFF_DEBUG, IFF_LOOPBACK, IFF_POINTOPOINT = 0x1, 0x2, 0x4, 0x8, 0x10
IFF_NOTRAILERS, IFF_RUNNING, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI = 0x20, 0x40, 0x80, 0x100, 0x200
IFF_MASTER, IFF_SLAVE, IFF_MULTICAST = 0x400, 0x800, 0x1000

_LETTERS = (
    (IFF_ALLMULTI, "A"), (IFF_BROADCAST, "B"), (IFF_DEBUG, "D"), (IFF_LOOPBACK, "L"), (IFF_MULTICAST, "M"),
    (IFF_PROMISC, "P"), (IFF_NOTRAILERS, "N"), (IFF_NOARP, "O"), (IFF_POINTOPOINT, "P"), (IFF_SLAVE, "s"),
    (IFF_MASTER, "m"), (IFF_RUNNING, "R"), (IFF_UP, "U"),
)  # fmt: skip


def flag_letters(flags: int) -> str:
    """The flags of an interface as `netstat -i` shows them."""
    return "".join(letter for bit, letter in _LETTERS if flags & bit)


class Counters(NamedTuple):
    """What an interface has received and sent; the names of /sys/class/net/*/statistics say the same."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    rx_fifo_errors: int
    rx_frame_errors: int
    rx_compressed: int
    multicast: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int
    tx_fifo_errors: int
    collisions: int
    tx_carrier_errors: int
    tx_compressed: int


def parse_dev(line: bytes) -> tuple[str, Counters]:
    """`name: ` and 16 numbers. Raises ParseError."""
    name, colon, numbers = line.rpartition(b":")
    try:
        if not colon:
            raise ValueError
        return text(name.strip()), Counters(*map(int, numbers.split()))
    except (TypeError, ValueError):
        raise ParseError(f"not in the form of /proc/net/dev: {line[:60]!r}") from None


class Address6(NamedTuple):
    """One line of /proc/net/if_inet6."""

    address: str
    ifindex: int
    prefix: int
    scope: int
    """IPV6_ADDR_*: 0 global, 0x10 host, 0x20 link, 0x40 site."""
    flags: int
    """The lowest eight of IFA_F_*."""
    interface: str


def parse_if_inet6(line: bytes) -> Address6:
    """Address, interface index, prefix length, scope and flags, all in hexadecimal, and the interface. Raises
    ParseError."""
    fields = line.split()
    try:
        raw = bytes.fromhex(fields[0].decode())
        if len(raw) != 16:
            raise ValueError
        ifindex, prefix, scope, flags = (int(field, 16) for field in fields[1:5])
        return Address6(address_text(raw), ifindex, prefix, scope, flags, text(fields[5]))
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/if_inet6: {line[:60]!r}") from None


class Counter(NamedTuple):
    """A counter of a protocol, by the kernel's names (RFC 1213 and its successors, or
    include/uapi/linux/snmp.h)."""

    protocol: str
    name: str
    value: int
    source: Source


def parse_snmp(path: str, lines: Iterator[tuple[bytes, Source]]) -> Iterator[Counter]:
    """/proc/net/snmp and netstat: pairs of lines, `Ip: names…` and `Ip: values…`. Raises ParseError."""
    for names, _ in lines:
        values, source = next(lines, (b"", Source(path)))
        protocol = names.partition(b":")[0]
        pairs = list(zip(names.split()[1:], values.split()[1:], strict=False))
        if not values.startswith(protocol + b":") or len(names.split()) != len(values.split()):
            raise ParseError(f"not in the form of {path}: {names[:60]!r}")
        try:
            yield from (Counter(text(protocol), text(name), int(value), source) for name, value in pairs)
        except ValueError:
            raise ParseError(f"not in the form of {path}: {values[:60]!r}") from None


def parse_snmp6(path: str, lines: Iterator[tuple[bytes, Source]]) -> Iterator[Counter]:
    """/proc/net/snmp6: `Ip6InReceives 18`; the protocol is the beginning of the name. Raises ParseError."""
    for line, source in lines:
        try:
            name, value = map(text, line.split())
            protocol, six, rest = name.partition("6")
            yield Counter(protocol + six, rest, int(value), source)
        except ValueError:
            raise ParseError(f"not in the form of {path}: {line[:60]!r}") from None


class Membership(NamedTuple):
    """A multicast group that an interface listens to."""

    interface: str
    references: int
    group: str


def parse_igmp(path: str, lines: Iterator[tuple[bytes, Source]]) -> Iterator[tuple[Membership, Source]]:
    """/proc/net/igmp: for each interface a line `1 lo : count …`, then its groups, each `\\t\\t\\t\\tGROUP
    users …`, the group as the little-endian machine reads it. Raises ParseError."""
    interface = ""
    for line, source in lines:
        fields = line.split()
        try:
            if not line.startswith(b"\t"):
                interface = text(fields[1].rstrip(b":"))
                continue
            group = address_text(bytes.fromhex(fields[0].decode())[::-1])
            yield Membership(interface, int(fields[1]), group), source
        except (IndexError, ValueError):
            raise ParseError(f"not in the form of {path}: {line[:60]!r}") from None


def parse_igmp6(path: str, lines: Iterator[tuple[bytes, Source]]) -> Iterator[tuple[Membership, Source]]:
    """/proc/net/igmp6: `1 lo GROUP users …`. Raises ParseError."""
    for line, source in lines:
        fields = line.split()
        try:
            group = address_text(bytes.fromhex(fields[2].decode()))
            yield Membership(text(fields[1]), int(fields[3]), group), source
        except (IndexError, ValueError):
            raise ParseError(f"not in the form of {path}: {line[:60]!r}") from None
