"""ip addr: interfaces, each with its addresses behind it."""

from __future__ import annotations

from hybridbridge_vol.netlink.attribute_text import joined
from hybridbridge_vol.netlink.ip_names import ADDRESS_FLAGS, SCOPES, names_of
from hybridbridge_vol.netlink.route_attributes import ADDRESS as ADDRESS_SCHEMA
from hybridbridge_vol.netlink.rtnetlink import AF_INET6, RTM_GETADDR, Address, parse_address
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.link import ALIAS, ALTNAMES, MASTER, NETNSID, link_cells
from hybridbridge_vol.tools.network.ip.view import (
    ADDRESS,
    BRD,
    FAMILIES,
    FAMILY,
    FLAGS,
    GROUP,
    IFACE,
    IFINDEX,
    MORE,
    MTU,
    QDISC,
    QLEN,
    SCOPE,
    STATE,
    Rows,
    View,
)

ADDRESS_COLUMNS = (
    IFINDEX, IFACE, FAMILY, ADDRESS, BRD, SCOPE, FLAGS,
    Column("VALID", "str", "how long the address is valid"),
    Column("PREFERRED", "str", "how long it is used for new connections"),
    STATE, MTU, QDISC,
    GROUP,
    QLEN,
    MASTER, ALIAS, ALTNAMES, NETNSID, MORE,
)  # fmt: skip


def addresses(view: View) -> Rows:
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
        yield link_cells(view, found) | {"MORE": None}, sources  # `ip --link` shows it
        for address, origin in addresses.pop(found.link.ifindex, []):
            yield _address_cells(view, address), origin
    for rest in addresses.values():
        for address, origin in rest:
            yield _address_cells(view, address), origin
    yield from gaps


def _address_cells(view: View, address: Address) -> dict[str, Cell]:
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
        "MORE": joined(ADDRESS_SCHEMA.pairs(address.rest, view.index_name)) or None,
    }


def _lifetime(seconds: int | None) -> str:
    return "forever" if seconds is None else f"{seconds}sec"
