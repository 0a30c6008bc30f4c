"""ip neigh: the neighbours of IPv4 and IPv6."""

from __future__ import annotations

from itertools import chain

from hybridbridge_vol.netlink.attribute_text import joined
from hybridbridge_vol.netlink.ip_names import NEIGHBOUR_FLAGS, NEIGHBOUR_STATES, names_of
from hybridbridge_vol.netlink.route_attributes import NEIGHBOUR
from hybridbridge_vol.netlink.rtnetlink import RTM_GETNEIGH, parse_neighbour, proxy_body
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.view import ADDRESS, FLAGS, IFACE, MORE, STATE, Rows, View

NUD_NOARP = 0x40
NEIGHBOUR_COLUMNS = (
    ADDRESS, IFACE, Column("LLADDR", "str", "hardware address"), STATE, FLAGS, MORE,
)  # fmt: skip


def neighbours(view: View) -> Rows:
    proxies = view.answers(RTM_GETNEIGH, parse_neighbour, proxy_body) if view.all else ()
    for found, sources in chain(view.answers(RTM_GETNEIGH, parse_neighbour), proxies):
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
                    "MORE": joined(NEIGHBOUR.pairs(found.rest, view.index_name)) or None,
                },
                sources,
            )
