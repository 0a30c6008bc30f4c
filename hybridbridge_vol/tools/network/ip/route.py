"""ip route: the routes of all tables."""

from __future__ import annotations

from hybridbridge_vol.netlink.attribute_text import Pairs, joined
from hybridbridge_vol.netlink.ip_names import (
    PREFERENCES,
    PROTOCOLS,
    ROUTE_FLAGS,
    ROUTE_TYPES,
    SCOPES,
    TABLES,
    names_of,
)
from hybridbridge_vol.netlink.route_attributes import route_pairs
from hybridbridge_vol.netlink.rtnetlink import AF_INET, RTM_GETROUTE, Hop, NetRoute, parse_net_route
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.view import FLAGS, IFACE, MORE, SCOPE, Rows, View, network

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
    Column("FROM", "str", "only for packets of this network or host (IPv6)"),
    Column("TOS", "hex", "only for packets with this type of service"),
    MORE,
)


def routes(view: View) -> Rows:
    for route, sources in view.answers(RTM_GETROUTE, parse_net_route):
        if isinstance(route, Unavailable):
            yield route, sources
            continue
        for hop in route.hops:
            yield _route_cells(view, route, hop), sources


def _and(view: View, route: NetRoute, hop: Hop) -> Pairs:
    pairs = route_pairs(route.rest, view.index_name) + route_pairs(hop.rest, view.index_name)
    return pairs + [("error", str(route.error))] * (route.error != 0)


def _route_cells(view: View, route: NetRoute, hop: Hop) -> dict[str, Cell]:
    several = len(route.hops) > 1
    return {
        "TYPE": ROUTE_TYPES.get(route.type, str(route.type)),
        "DESTINATION": network(route.destination, route.prefix, route.family, "default"),
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
        "FROM": network(route.source, route.source_prefix, route.family, "") or None,
        "TOS": route.tos or None,
        "MORE": joined(_and(view, route, hop)) or None,
    }
