"""Queueing disciplines, classes and filters of traffic, as rtnetlink answers them
(include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, gen_stats.h; Linux 5.10 to 7.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.netlink.messages import attributes, messages
from hybridbridge_vol.netlink.requests import NETLINK_ROUTE, NetlinkRequest
from hybridbridge_vol.netlink.rtnetlink import number, string

NEWQDISC, GETQDISC, NEWTCLASS, GETTCLASS, NEWTFILTER, GETTFILTER = 36, 38, 40, 42, 44, 46
_RTM_NEWLINK = 16
_TCMSG = struct.Struct("<BBHiIII")
ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
CLSACT_INGRESS, CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""TC_H_*: parents of filters beside handles of disciplines and classes."""
_IFINFOMSG_SIZE = 16
_IFLA_IFNAME, _IFLA_XDP = 3, 43
_BPF_ID = 11
"""TCA_BPF_*."""


class Statistics(NamedTuple):
    """TCA_STATS2."""

    bytes: int
    packets: int
    drops: int
    overlimits: int
    requeues: int
    backlog: int
    queued: int


class Traffic(NamedTuple):
    """A discipline, class or filter. `info` of a filter is its priority (upper 16 bits) and protocol
    (lower, in network order); `options` are its kind's own."""

    ifindex: int
    handle: int
    parent: int
    info: int
    kind: str
    options: bytes
    statistics: Statistics | None
    chain: int | None
    block: int | None
    rest: tuple[tuple[int, bytes], ...]


def request(kind: int, ifindex: int = 0, parent: int = 0) -> NetlinkRequest:
    """The request for all disciplines, or all classes or filters of an interface, of filters those of one
    parent."""
    body = _TCMSG.pack(0, 0, 0, ifindex, 0, parent, 0)
    return NetlinkRequest(f"rtnetlink {kind} {ifindex} {parent:#x}", NETLINK_ROUTE, kind, body)


_KNOWN = {1, 2, 3, 4, 7, 9, 11, 12, 13}
"""TCA_* that have a field here, or repeat one (statistics in their old form)."""


def parse_traffic(body: bytes) -> Traffic:
    """Raises struct.error."""
    _family, _pad, _pad2, ifindex, handle, parent, info = _TCMSG.unpack_from(body)
    found = attributes(body[_TCMSG.size :])
    return Traffic(
        ifindex, handle, parent, info, string(found.get(1, b"")), found.get(2, b""), statistics(found.get(7)),
        number(found[11]) if 11 in found else None, number(found[13]) if 13 in found else None,
        tuple((kind, data) for kind, data in found.items() if kind not in _KNOWN),
    )  # fmt: skip


def statistics(data: bytes | None) -> Statistics | None:
    """TCA_STATS2, or TCA_ACT_STATS, which has the same form."""
    if data is None:
        return None
    found = attributes(data)
    sent, packets = struct.unpack_from("<QI", found[1]) if len(found.get(1, b"")) >= 12 else (0, 0)
    if 8 in found:
        packets = number(found[8])
    queue = struct.unpack_from("<5I", found[3]) if len(found.get(3, b"")) >= 20 else (0,) * 5
    queued, backlog, drops, requeues, overlimits = queue
    return Statistics(sent, packets, drops, overlimits, requeues, backlog, queued)


def xdp_programs(links: bytes) -> Iterator[tuple[str, str, int]]:
    """Of the answer to RTM_GETLINK: interfaces with programs of XDP, how these run, and their ids."""
    for message in messages(links):
        if message.kind != _RTM_NEWLINK:
            continue
        found = attributes(message.body[_IFINFOMSG_SIZE:])
        xdp = attributes(found.get(_IFLA_XDP, b""))
        modes = {5: "", 6: " (generic)", 7: " (offloaded)"}
        some = {kind: number(xdp[kind]) for kind in modes if kind in xdp} or (
            {5: number(xdp[4])} if 4 in xdp and number(xdp[4]) else {}
        )
        for kind, program in some.items():
            yield string(found.get(_IFLA_IFNAME, b"")), modes[kind], program


def bpf_filters(filters: Iterable[Traffic], names: Callable[[int], str]) -> Iterator[tuple[str, str, int]]:
    """Of filters those that are eBPF programs: interface, direction, id of the program; and their actions
    that are."""
    for one in filters:
        where = {CLSACT_INGRESS: "tc ingress", INGRESS: "tc ingress", CLSACT_EGRESS: "tc egress"}.get(
            one.parent, "tc"
        )
        options = attributes(one.options)
        if one.kind == "bpf" and _BPF_ID in options:
            yield names(one.ifindex), where, number(options[_BPF_ID])
