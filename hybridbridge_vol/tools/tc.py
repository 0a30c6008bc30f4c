"""tc: queueing disciplines, classes, filters of traffic and their actions."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.attribute_text import Names
from hybridbridge_vol.netlink.traffic import CLSACT_EGRESS, CLSACT_INGRESS, INGRESS, ROOT, Traffic
from hybridbridge_vol.netlink.traffic_options import handle_text, options_text
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.link_answers import names_by_index
from hybridbridge_vol.tools.network.traffic import Found, TrafficTables

_PARENTS = {ROOT: "root", INGRESS: "ingress", CLSACT_INGRESS: "ingress", CLSACT_EGRESS: "egress"}
_PROTOCOLS = {
    0x0003: "all", 0x0800: "ip", 0x86DD: "ipv6", 0x0806: "arp", 0x8100: "802.1Q", 0x88A8: "802.1ad",
    0x88F7: "ptp",
}  # fmt: skip


class Tc(Tool):
    name = "tc"
    help = "Queueing disciplines, classes and filters of traffic with their actions, as tc shows them"
    notes = (
        "Asks the snapshot's kernel by rtnetlink, as tc does. Filters can drop, change, copy and redirect "
        "packets "
        "before any packet filter sees them; those that are eBPF programs name them (`bpf --prog ID` "
        "shows the "
        "code). Rates are bytes a second, times as the kernel keeps them. What has no name here is shown "
        "by its "
        "number. One network namespace is shown, that of process 1: `--ns-of PID` shows another's."
    )
    example = "--filter"
    options = (
        Option("disciplines", bool, "only disciplines (tc qdisc)"),
        Option("classes", bool, "only classes (tc class)"),
        Option("filter", bool, "only filters (tc filter)"),
        Option("interface", str, "only these interfaces", many=True, short="i"),
    )
    columns = (
        Column("IFACE", "str", "interface"),
        Column("OBJECT", "str", "qdisc, class or filter"),
        Column("KIND", "str", "htb, fq_codel, u32, bpf ..."),
        Column("HANDLE", "str", "its number, in hexadecimal"),
        Column("PARENT", "str", "root, ingress, egress, or the handle of what it belongs to"),
        Column("PRIO", "int", "of a filter: they are tried in this order"),
        Column("PROTOCOL", "str", "of a filter: packets that it looks at"),
        Column("CHAIN", "int", "of a filter: the chain in which it stands"),
        Column("OPTIONS", "str", "what it does: names and values; actions in [ ]"),
        Column("BYTES", "int", "bytes that it has seen"),
        Column("PACKETS", "int", "packets that it has seen"),
        Column("DROPS", "int", "packets that it has dropped"),
        Column("OVERLIMITS", "int", "packets above its limit"),
        Column("REQUEUES", "int", "packets that were put back"),
        Column("BACKLOG", "int", "bytes that wait"),
        Column("QLEN", "int", "packets that wait"),
        Column("MORE", "str", "what has no column"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        known = names_by_index(kernel)

        def name(ifindex: int) -> str:
            return known.get(ifindex, f"if{ifindex}")

        tables = TrafficTables(kernel)
        chosen = [which for which in _OBJECTS if options[which]]
        for which in chosen or _OBJECTS:
            for one, source in _found(tables, which):
                if not options["interface"] or name(one.ifindex) in options["interface"]:
                    yield Row(_cells(_OBJECTS[which], one, name), sources=(source,))
        yield from (Row((gap,) * len(self.columns)) for gap in dict.fromkeys(tables.gaps))


_OBJECTS = {"disciplines": "qdisc", "classes": "class", "filter": "filter"}
"""What tc calls them, by the options."""


def _found(tables: TrafficTables, which: str) -> list[Found]:
    if which == "disciplines":
        return tables.disciplines
    return tables.classes() if which == "classes" else tables.filters()


def _cells(word: str, one: Traffic, name: Names) -> tuple[Cell, ...]:
    is_filter = word == "filter"
    more = "; ".join(f"attribute {kind}: {data.hex() or '(empty)'}" for kind, data in one.rest) or None
    counted: tuple[int | None, ...] = (None,) * 7
    if one.statistics is not None:
        its = one.statistics
        counted = (
            its.bytes, its.packets, its.drops, its.overlimits, its.requeues, its.backlog, its.queued,
        )  # fmt: skip
    return (
        name(one.ifindex), word, one.kind, f"{one.handle:#x}" if is_filter else handle_text(one.handle),
        _PARENTS.get(one.parent) or handle_text(one.parent), one.info >> 16 if is_filter else None,
        _protocol(one) if is_filter else None, one.chain, options_text(one.kind, one.options, name) or None,
        *counted, more,
    )  # fmt: skip


def _protocol(one: Traffic) -> str:
    number = socket.ntohs(one.info & 0xFFFF)
    return _PROTOCOLS.get(number, f"{number:#06x}")


TOOL = Tc()
