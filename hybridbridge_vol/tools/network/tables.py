"""What netstat shows beside sockets and routes: interfaces, counters of protocols, multicast groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import ENOENT
from itertools import islice
from typing import TypeVar

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.rtnetlink import RTM_GETLINK, Link, parse_link, parsed
from hybridbridge_vol.procfs.net_dev import (
    IFF_ALLMULTI,
    IFF_PROMISC,
    IFF_RUNNING,
    IFF_UP,
    flag_letters,
    parse_dev,
    parse_igmp,
    parse_igmp6,
    parse_snmp,
    parse_snmp6,
)
from hybridbridge_vol.procfs.sctp import parse_sctp_snmp
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, read_lines, why
from hybridbridge_vol.toolkit.tool import Column, Row
from hybridbridge_vol.tools.network.link_answers import CLASS_NET, interface_names, link_answers, sysfs_number

INTERFACES = (
    Column("IFACE", "str", "interface"), Column("MTU", "int", "largest packet in bytes"),
    Column("RX-OK", "int", "packets received"), Column("RX-ERR", "int", "received with errors"),
    Column("RX-DRP", "int", "received and dropped"), Column("RX-OVR", "int", "lost for want of room"),
    Column("TX-OK", "int", "packets sent"), Column("TX-ERR", "int", "errors while sending"),
    Column("TX-DRP", "int", "dropped instead of sent"), Column("TX-OVR", "int", "lost for want of room"),
    Column(
        "FLG", "str",
        "A all multicast, B broadcast, L loopback, M multicast, O no ARP, P promiscuous or point to point, "
        "m master, s slave, R running, U up",
    ),
)  # fmt: skip
SHOWN = (
    "rx_packets",
    "rx_errors",
    "rx_dropped",
    "rx_fifo_errors",
    "tx_packets",
    "tx_errors",
    "tx_dropped",
    "tx_fifo_errors",
)
STATISTICS = (
    Column("PROTOCOL", "str", "as the kernel names it"),
    Column("COUNTER", "str", "as the kernel names it"),
    Column("VALUE", "int", "since boot (some are states: CurrEstab, Forwarding)"),
)
MEMBERSHIPS = (
    Column("IFACE", "str", "interface"),
    Column("REFCNT", "int", "users"),
    Column("GROUP", "str", "multicast address"),
)
PROTOCOLS = {"tcp": ("tcp",), "udp": ("udp",), "raw": ("ip", "icmp", "mptcp"), "sctp": ("sctp",)}
"""How the names of the protocols begin that -t, -u, -w and -S ask for."""


def interfaces(kernel: GuestKernel, down: bool) -> Iterator[Row]:
    """A row for each interface that is up, or for all; the counters are the driver's, and only its code knows
    them."""
    asked = _asked_flags(kernel)
    for name, counters, source in _counted(kernel):
        mtu = sysfs_number(kernel, name, "mtu")
        flags = asked[name] if name in asked else shown_flags(kernel, name)
        if not down and isinstance(flags, int) and not flags & IFF_UP:
            continue
        letters = flag_letters(flags) if isinstance(flags, int) else flags
        yield Row((name, mtu, *counters, letters), sources=(*source, *_files(name, "mtu", "flags")))


def _counted(kernel: GuestKernel) -> Iterator[tuple[str, tuple[Cell, ...], tuple[Source, ...]]]:
    """Name, `SHOWN` counters and where they stand, of each interface: all from /proc/net/dev, or, where one
    driver's code stands in the way of them all, one by one."""
    path = "/proc/net/dev"
    try:
        found = [
            (parse_dev(line), source)
            for line, source in islice(lines(path, kernel.files.read(path)), 2, None)
        ]
    except UNREADABLE as error:
        yield from _counted_singly(kernel, why(path, error))
        return
    for (name, counters), source in found:
        yield name, tuple(getattr(counters, field) for field in SHOWN), (source,)


def _counted_singly(
    kernel: GuestKernel, gap: Unavailable
) -> Iterator[tuple[str, tuple[Cell, ...], tuple[Source, ...]]]:
    try:
        names = interface_names(kernel)
    except UNREADABLE:
        yield "", (gap,) * len(SHOWN), ()
        return
    indices = {name: sysfs_number(kernel, name, "ifindex") for name in names}
    for name in sorted(names, key=lambda name: index if isinstance(index := indices[name], int) else 0):
        first = sysfs_number(kernel, name, f"statistics/{SHOWN[0]}")
        if isinstance(first, Unavailable):
            yield name, (first,) * len(SHOWN), ()
            continue
        rest = (sysfs_number(kernel, name, f"statistics/{field}") for field in SHOWN[1:])
        yield name, (first, *rest), _files(name, *(f"statistics/{field}" for field in SHOWN))


def _files(name: str, *files: str) -> tuple[Source, ...]:
    return tuple(Source(f"{CLASS_NET}/{name}/{file}") for file in files)


def interface_flags(kernel: GuestKernel, interface: str) -> int | Unavailable:
    """IFF_*: those of /sys/class/net, and whether it runs, which the kernel derives anew for whoever asks
    (net/core/dev.c, dev_get_flags; netif_oper_up)."""
    flags = sysfs_number(kernel, interface, "flags")
    if isinstance(flags, Unavailable) or not flags & IFF_UP:
        return flags
    try:
        state = kernel.files.read(f"{CLASS_NET}/{interface}/operstate").strip()
    except UNREADABLE as error:
        return why(f"{CLASS_NET}/{interface}/operstate", error)
    return flags | IFF_RUNNING if state in (b"up", b"unknown", b"testing") else flags & ~IFF_RUNNING


def _asked_flags(kernel: GuestKernel) -> dict[str, int]:
    """IFF_* of the interfaces by their names, as rtnetlink answers them; empty if it does not answer."""
    try:
        data = link_answers(kernel).data
    except UNREADABLE:
        return {}
    answers = (link for link, _source in parsed(RTM_GETLINK, data, parse_link))
    return {link.name: link.flags for link in answers if isinstance(link, Link)}


def shown_flags(kernel: GuestKernel, interface: str) -> int | Unavailable:
    """IFF_* as netstat is shown them, from /sys/class/net. There promiscuous and all-multicast mode are those
    of the device; a tool is answered whether somebody asked for them (dev_get_flags), which is not there: a
    bridge, say, switches its ports to promiscuous mode, and their flags do not say so."""
    flags = interface_flags(kernel, interface)
    if isinstance(flags, int) and flags & (IFF_PROMISC | IFF_ALLMULTI):
        return Unavailable(f"{CLASS_NET}/{interface}/flags: does not say whether a mode was asked for")
    return flags


def statistics(kernel: GuestKernel, kinds: list[str]) -> Iterator[Row]:
    """The counters of the protocols of these kinds (`PROTOCOLS`), or of all."""
    wanted = tuple(prefix for kind in kinds for prefix in PROTOCOLS[kind])
    for path, parse in (
        ("/proc/net/snmp", parse_snmp),
        ("/proc/net/netstat", parse_snmp),
        ("/proc/net/snmp6", parse_snmp6),
        ("/proc/net/sctp/snmp", parse_sctp_snmp),
    ):
        for found in _parsed(kernel, path, 0, parse):
            if isinstance(found, Unavailable):
                yield Row((found,) * len(STATISTICS))
            elif not wanted or found.protocol.lower().startswith(wanted):
                yield Row((found.protocol, found.name, found.value), sources=(found.source,))


def memberships(kernel: GuestKernel, inet: bool, inet6: bool) -> Iterator[Row]:
    """The multicast groups of IPv4 and IPv6."""
    for path, head, parse in (("/proc/net/igmp", 1, parse_igmp),) * inet + (
        ("/proc/net/igmp6", 0, parse_igmp6),
    ) * inet6:
        for found in _parsed(kernel, path, head, parse):
            if isinstance(found, Unavailable):
                yield Row((found,) * len(MEMBERSHIPS))
                continue
            membership, source = found
            yield Row((membership.interface, membership.references, membership.group), sources=(source,))


T = TypeVar("T")


def _parsed(
    kernel: GuestKernel,
    path: str,
    head: int,
    parse: Callable[[str, Iterator[tuple[bytes, Source]]], Iterator[T]],
) -> Iterator[T | Unavailable]:
    """What a file says behind its first `head` lines, and why it cannot be read on. A missing file says
    nothing."""
    data, gap = read_lines(kernel.files, path, empty=ENOENT)
    try:
        yield from parse(path, islice(lines(path, data), head, None))
    except UNREADABLE as error:
        yield why(path, error)
    if gap:
        yield gap
