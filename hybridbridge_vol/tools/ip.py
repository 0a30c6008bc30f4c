"""ip: links, addresses, neighbours, routes and rules, as the kernel answers rtnetlink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeVar

from hybridbridge_vol.netlink.ip_names import (
    ADDRESS_FLAGS,
    HARDWARE,
    LINK_FLAGS,
    NEIGHBOUR_FLAGS,
    NEIGHBOUR_STATES,
    NO_CARRIER,
    PREFERENCES,
    PROTOCOLS,
    ROUTE_FLAGS,
    ROUTE_TYPES,
    RULE_ACTIONS,
    SCOPES,
    TABLES,
    names_of,
)
from hybridbridge_vol.netlink.rtnetlink import (
    AF_INET,
    AF_INET6,
    RTM_GETADDR,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_GETRULE,
    Address,
    Hop,
    Link,
    NetRoute,
    parse_address,
    parse_neighbour,
    parse_net_route,
    parse_rule,
    parsed,
    request_body,
)
from hybridbridge_vol.procfs.net_dev import IFF_RUNNING, IFF_UP
from hybridbridge_vol.toolkit.guest_kernel import EndlessFile, GuestKernel
from hybridbridge_vol.toolkit.tool import (
    UNREADABLE,
    Cell,
    Column,
    Option,
    Options,
    ParseError,
    Row,
    Source,
    Tool,
    Unavailable,
    why,
)
from hybridbridge_vol.tools.network.links import IF_OPER, Found, all_links, counters, names_by_index

T = TypeVar("T")
NUD_NOARP = 0x40
FAMILIES = {AF_INET: "inet", AF_INET6: "inet6"}
BITS = {AF_INET: 32, AF_INET6: 128}

IFINDEX = Column("IFINDEX", "int", "number of the interface")
IFACE = Column(
    "IFACE", "str", "interface; @: the one it lies on or is paired with (@if: in another namespace)"
)
FAMILY = Column("FAMILY", "str", "link/ and the kind of hardware, inet or inet6")
ADDRESS = Column(
    "ADDRESS", "str", "hardware address, or address with its prefix length; peer: the other end's"
)
BRD = Column("BRD", "str", "broadcast address")
SCOPE = Column("SCOPE", "str", "global, site, link, host")
FLAGS = Column(
    "FLAGS",
    "str",
    "as ip shows them: of a link UP, LOWER_UP, …; of an address dynamic, secondary, tentative, …",
)
STATE = Column("STATE", "str", "UP, DOWN, UNKNOWN, …")
MTU = Column("MTU", "int", "largest packet in bytes")
QDISC = Column("QDISC", "str", "queueing discipline")
COUNTED = {
    "rx_bytes": "bytes received", "rx_packets": "packets received", "rx_errors": "received with errors",
    "rx_dropped": "received and dropped", "rx_missed_errors": "missed for want of room",
    "multicast": "multicast packets received", "tx_bytes": "bytes sent", "tx_packets": "packets sent",
    "tx_errors": "errors while sending", "tx_dropped": "dropped instead of sent",
    "tx_carrier_errors": "lost carrier", "collisions": "collisions",
}  # fmt: skip
COUNTERS = tuple(
    Column(
        name.removesuffix("_errors").replace("_", "-").upper()
        if name.count("_") > 1
        else name.replace("_", "-").upper(),
        "int",
        about,
    )
    for name, about in COUNTED.items()
)
LINK_COLUMNS = (
    IFINDEX,
    IFACE,
    FAMILY,
    ADDRESS,
    BRD,
    FLAGS,
    STATE,
    MTU,
    QDISC,
    Column("MASTER", "str", "bridge or bond it belongs to"),
    *COUNTERS,
)
NEIGHBOUR_COLUMNS = (
    ADDRESS, IFACE, Column("LLADDR", "str", "hardware address"), STATE, FLAGS,
)  # fmt: skip
ROUTE_COLUMNS = (
    Column("TYPE", "str", "unicast, local, broadcast, multicast, blackhole, unreachable, …"),
    Column("DESTINATION", "str", "network or host, or default"),
    Column("GATEWAY", "str", "next hop"),
    IFACE,
    Column("TABLE", "str", "main, local, default or a number"),
    Column("PROTO", "str", "who made it: kernel, boot, static, ra, dhcp, …"),
    SCOPE,
    Column("SRC", "str", "own address that is preferred"),
    Column("METRIC", "int", "distance; the smallest wins"),
    FLAGS,
    Column("WEIGHT", "int", "share of this next hop, where there are several"),
    Column("PREF", "str", "preference of a router (IPv6)"),
    Column("EXPIRES", "int", "seconds until it goes"),
)
RULE_COLUMNS = (
    Column("PRIORITY", "int", "rules are tried in this order"),
    FAMILY,
    Column("FROM", "str", "source, or all"),
    Column("TO", "str", "destination, or all"),
    Column("IIF", "str", "incoming interface"),
    Column("OIF", "str", "outgoing interface"),
    Column("FWMARK", "hex", "mark of the packet"),
    Column("ACTION", "str", "lookup, blackhole, unreachable, prohibit, goto, nop"),
    Column("TABLE", "str", "table to look into"),
)


class Ip(Tool):
    name = "ip"
    help = "Links and addresses; neighbours, routes and rules, as ip shows them"
    notes = (
        "Asks the snapshot's kernel by rtnetlink, as ip does. Without an option links and their addresses "
        "are shown (ip addr). Where a driver's code would be needed and cannot be run, links come from "
        "/sys/class/net, and what is not there says so."
    )
    example = "--neigh -6"
    options = (
        Option("link", bool, "links with their counters (ip -s link)"),
        Option("neigh", bool, "neighbours (ip neigh; with --all also those that are never asked for)"),
        Option("route", bool, "routes of all tables (ip route show table all)"),
        Option("rule", bool, "rules of routing (ip rule)"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
        Option("all", bool, "leave nothing out", short="a"),
    )
    columns = (
        IFINDEX, IFACE, FAMILY, ADDRESS, BRD, SCOPE, FLAGS,
        Column("VALID", "str", "how long the address is valid"),
        Column("PREFERRED", "str", "how long it is used for new connections"),
        STATE, MTU, QDISC,
        Column("GROUP", "str", "group of interfaces"),
        Column("QLEN", "int", "packets that can wait to be sent"),
    )  # fmt: skip

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        for option, columns in (
            ("link", LINK_COLUMNS),
            ("neigh", NEIGHBOUR_COLUMNS),
            ("route", ROUTE_COLUMNS),
            ("rule", RULE_COLUMNS),
        ):
            if options[option]:
                return columns
        return self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        makers: dict[tuple[Column, ...], Callable[[_View], Rows]] = {
            LINK_COLUMNS: _links,
            NEIGHBOUR_COLUMNS: _neighbours,
            ROUTE_COLUMNS: _routes,
            RULE_COLUMNS: _rules,
        }
        for cells, sources in makers.get(columns, _addresses)(_View(kernel, options)):
            if isinstance(cells, Unavailable):
                yield Row((cells,) * len(columns), sources=sources)
            else:
                yield Row(tuple(cells.get(column.name) for column in columns), sources=sources)


Rows = Iterator[tuple[dict[str, Cell] | Unavailable, tuple[Source, ...]]]


class _View:
    """The kernel, what was asked for, and the interfaces' names."""

    def __init__(self, kernel: GuestKernel, options: Options) -> None:
        self.kernel = kernel
        self.all = bool(options["all"])
        self.families = [AF_INET] * options["inet"] + [AF_INET6] * options["inet6"] or [AF_INET, AF_INET6]

    @cached_property
    def links(self) -> list[Found]:
        return all_links(self.kernel)

    @cached_property
    def _names(self) -> dict[int, str]:
        return names_by_index(self.kernel)

    def name(self, ifindex: int | None) -> str | None:
        return None if ifindex is None else self._names.get(ifindex, f"if{ifindex}")

    def answers(
        self, kind: int, parse: Callable[[bytes], T]
    ) -> Iterator[tuple[T | Unavailable, tuple[Source, ...]]]:
        """What the kernel answers of each family, or why it does not."""
        for family in self.families:
            gap = None
            try:
                data = self.kernel.rtnetlink(kind, request_body(kind, family))
            except EndlessFile as error:
                data, gap = error.partial, why("rtnetlink", error)
            except UNREADABLE as error:
                data, gap = b"", why("rtnetlink", error)
            seen = set()
            for found, source in parsed(kind, data, parse):
                if gap and found in seen:
                    break  # the kernel's list leads back into itself
                if gap:
                    seen.add(found)
                yield Unavailable(str(found)) if isinstance(found, ParseError) else found, (source,)
            if gap:
                yield gap, ()


def _link_cells(view: _View, found: Found) -> dict[str, Cell]:
    link = found.link
    assert isinstance(link, Link)
    name = link.name
    if link.peer is not None:
        other = f"if{link.peer}" if link.peer_namespace is not None or not link.peer else view.name(link.peer)
        name += f"@{other if link.peer else 'NONE'}"
    flags = names_of(link.flags & ~IFF_RUNNING, LINK_FLAGS)
    if link.flags & IFF_UP and not link.flags & IFF_RUNNING:
        flags = [NO_CARRIER, *flags]
    state = (
        IF_OPER[link.state].upper() if link.state is not None and link.state < len(IF_OPER) else link.state
    )
    return {
        "IFINDEX": link.ifindex,
        "IFACE": name,
        "FAMILY": f"link/{HARDWARE.get(link.type, link.type)}",
        "ADDRESS": link.address,
        "BRD": link.broadcast,
        "FLAGS": ",".join(flags),
        "STATE": None if state is None else str(state),
        "MTU": link.mtu,
        "QDISC": link.qdisc if link.qdisc is not None else found.gap,
        "GROUP": None if link.group is None else "default" if link.group == 0 else str(link.group),
        "QLEN": link.queue,
        "MASTER": view.name(link.master),
    }


def _links(view: _View) -> Rows:
    for found in view.links:
        sources = (found.source,) if found.source else ()
        if isinstance(found.link, Unavailable):
            yield found.link, sources
            continue
        values = counters(view.kernel, found, tuple(COUNTED))
        yield (
            _link_cells(view, found) | dict(zip((column.name for column in COUNTERS), values, strict=True)),
            sources,
        )


def _addresses(view: _View) -> Rows:
    """Each link, and behind it its addresses."""
    addresses: dict[int, list[tuple[Address, tuple[Source, ...]]]] = {}
    gaps = []
    for address, sources in view.answers(RTM_GETADDR, parse_address):
        if isinstance(address, Unavailable):
            gaps.append((address, sources))
        else:
            addresses.setdefault(address.ifindex, []).append((address, sources))
    for found in view.links:
        sources = (found.source,) if found.source else ()
        if isinstance(found.link, Unavailable):
            yield found.link, sources
            continue
        yield _link_cells(view, found), sources
        for address, origin in addresses.pop(found.link.ifindex, []):
            yield _address_cells(view, address), origin
    for rest in addresses.values():
        for address, origin in rest:
            yield _address_cells(view, address), origin
    yield from gaps


def _address_cells(view: _View, address: Address) -> dict[str, Cell]:
    peer = f" peer {address.peer}" if address.peer else ""
    return {
        "IFINDEX": address.ifindex,
        "IFACE": address.label or view.name(address.ifindex),
        "FAMILY": FAMILIES.get(address.family, str(address.family)),
        "ADDRESS": f"{address.address}{peer}/{address.prefix}",
        "BRD": address.broadcast,
        "SCOPE": SCOPES.get(address.scope, str(address.scope)),
        "FLAGS": " ".join(names_of(address.flags ^ 0x80, ADDRESS_FLAGS[address.family == AF_INET6])),
        "VALID": _lifetime(address.valid),
        "PREFERRED": _lifetime(address.preferred),
    }


def _lifetime(seconds: int | None) -> str:
    return "forever" if seconds is None else f"{seconds}sec"


def _neighbours(view: _View) -> Rows:
    for found, sources in view.answers(RTM_GETNEIGH, parse_neighbour):
        if isinstance(found, Unavailable):
            yield found, sources
        elif view.all or found.state & ~NUD_NOARP:
            state = NEIGHBOUR_STATES.get(found.state, f"{found.state:#x}")
            yield (
                {
                    "ADDRESS": found.address,
                    "IFACE": view.name(found.ifindex),
                    "LLADDR": found.lladdr,
                    "STATE": state,
                    "FLAGS": " ".join(names_of(found.flags, NEIGHBOUR_FLAGS)),
                },
                sources,
            )


def _routes(view: _View) -> Rows:
    for route, sources in view.answers(RTM_GETROUTE, parse_net_route):
        if isinstance(route, Unavailable):
            yield route, sources
            continue
        for hop in route.hops:
            yield _route_cells(view, route, hop), sources


def _route_cells(view: _View, route: NetRoute, hop: Hop) -> dict[str, Cell]:
    several = len(route.hops) > 1
    return {
        "TYPE": ROUTE_TYPES.get(route.type, str(route.type)),
        "DESTINATION": _network(route.destination, route.prefix, route.family, "default"),
        "GATEWAY": hop.gateway,
        "IFACE": view.name(hop.ifindex),
        "TABLE": TABLES.get(route.table, str(route.table)),
        "PROTO": PROTOCOLS.get(route.protocol, str(route.protocol)),
        "SCOPE": SCOPES.get(route.scope, str(route.scope)) if route.family == AF_INET else None,
        "SRC": route.preferred_source,
        "METRIC": route.metric,
        "FLAGS": " ".join(names_of(route.flags | hop.flags, ROUTE_FLAGS)),
        "WEIGHT": hop.weight if several else None,
        "PREF": PREFERENCES.get(route.preference, str(route.preference))
        if route.preference is not None
        else None,
        "EXPIRES": route.expires,
    }


def _network(address: str | None, prefix: int, family: int, otherwise: str) -> str:
    """An address with its prefix length, if that is not all of it, as ip writes networks."""
    if address is None:
        return otherwise
    return address if prefix == BITS.get(family) else f"{address}/{prefix}"


def _rules(view: _View) -> Rows:
    for rule, sources in view.answers(RTM_GETRULE, parse_rule):
        if isinstance(rule, Unavailable):
            yield rule, sources
            continue
        yield (
            {
                "PRIORITY": rule.priority,
                "FAMILY": FAMILIES.get(rule.family, str(rule.family)),
                "FROM": _network(rule.source, rule.source_prefix, rule.family, "all"),
                "TO": _network(rule.destination, rule.destination_prefix, rule.family, "all"),
                "IIF": rule.incoming,
                "OIF": rule.outgoing,
                "FWMARK": rule.mark,
                "ACTION": RULE_ACTIONS.get(rule.action, str(rule.action)),
                "TABLE": TABLES.get(rule.table, str(rule.table)) if rule.action == 1 else None,
            },
            sources,
        )


TOOL = Ip()
