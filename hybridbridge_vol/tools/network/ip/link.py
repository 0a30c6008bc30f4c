"""ip link: interfaces and their counters."""

from __future__ import annotations

from collections.abc import Mapping

from hybridbridge_vol.netlink.attribute_text import Attributes, Pairs, Schema, joined
from hybridbridge_vol.netlink.ip_names import ADDRESS_MODES, HARDWARE, LINK_FLAGS, NO_CARRIER, names_of
from hybridbridge_vol.netlink.link_attributes import KINDS, LINK, PORTS, UNKNOWN
from hybridbridge_vol.netlink.rtnetlink import Link
from hybridbridge_vol.procfs.net_dev import IFF_RUNNING, IFF_UP
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.view import (
    ADDRESS,
    BRD,
    FAMILY,
    FLAGS,
    GROUP,
    IFACE,
    IFINDEX,
    MORE,
    MTU,
    QDISC,
    QLEN,
    STATE,
    Rows,
    View,
)
from hybridbridge_vol.tools.network.links import IF_OPER, Found, counters

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
MASTER = Column("MASTER", "str", "bridge, bond, team or VRF it belongs to")
KIND = Column("KIND", "str", "vlan, vxlan, bridge, …; none: a device")
ALIAS = Column("ALIAS", "str", "text that somebody gave it")
ALTNAMES = Column("ALTNAMES", "str", "its other names")
NETNSID = Column(
    "NETNSID", "int", "namespace of the interface it lies on or is paired with (ip netns list-id)"
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
    GROUP,
    QLEN,
    MASTER,
    KIND,
    Column("INFO", "str", "what its driver says of it: VLAN id, ends of a tunnel, …"),
    Column("PORT", "str", "what its master's driver says of it"),
    ALIAS,
    ALTNAMES,
    NETNSID,
    MORE,
    *COUNTERS,
)


def link_cells(view: View, found: Found) -> dict[str, Cell]:
    link = found.link
    assert isinstance(link, Link)
    flags = names_of(link.flags & ~IFF_RUNNING, LINK_FLAGS)
    if link.flags & IFF_UP and not link.flags & IFF_RUNNING:
        flags = [NO_CARRIER, *flags]
    return {
        "IFINDEX": link.ifindex,
        "IFACE": _shown_name(view, link),
        "FAMILY": f"link/{HARDWARE.get(link.type, link.type)}",
        "ADDRESS": link.address,
        "BRD": link.broadcast,
        "FLAGS": ",".join(flags),
        "STATE": _state(link.state),
        "MTU": link.mtu,
        "QDISC": link.qdisc if link.qdisc is not None else found.gap,
        "GROUP": None if link.group is None else "default" if link.group == 0 else str(link.group),
        "QLEN": link.queue,
        "MASTER": view.name(link.master),
        "KIND": link.kind,
        "INFO": joined(_of_kind(KINDS, link.kind, link.info, view)) or None,
        "PORT": _port(link, view),
        "ALIAS": link.alias,
        "ALTNAMES": " ".join(link.altnames) or None,
        "NETNSID": None if link.peer_namespace is None else to_signed(link.peer_namespace),
        "MORE": joined(_and(link, view)) or None,
    }


def _shown_name(view: View, link: Link) -> str:
    """The name, and behind @ the interface it lies on or is paired with."""
    if link.peer is None:
        return link.name
    if not link.peer:
        return f"{link.name}@NONE"
    return f"{link.name}@{f'if{link.peer}' if link.peer_namespace is not None else view.name(link.peer)}"


def _state(state: int | None) -> str | None:
    if state is None:
        return None
    return IF_OPER[state].upper() if state < len(IF_OPER) else str(state)


def _and(link: Link, view: View) -> Pairs:
    pairs = LINK.pairs(link.rest, view.index_name)
    if link.address_mode is not None:
        mode = ADDRESS_MODES.get(link.address_mode, str(link.address_mode))
        pairs.append(("inet6_addr_gen_mode", mode))
    return pairs


def _of_kind(kinds: Mapping[str, Schema], kind: str | None, found: Attributes, view: View) -> Pairs:
    return kinds.get(kind or "", UNKNOWN).pairs(found, view.index_name)


def _port(link: Link, view: View) -> str | None:
    if link.port_kind is None:
        return None
    pairs = _of_kind(PORTS, link.port_kind, link.port_info, view)
    return "; ".join([link.port_kind, *([joined(pairs)] if pairs else [])])


def to_signed(number: int) -> int:
    """An attribute of 32 bits with its sign."""
    return number - (1 << 32) if number >> 31 else number


def links(view: View) -> Rows:
    for found in view.links:
        sources = (found.source,) if found.source else ()
        if isinstance(found.link, Unavailable):
            yield found.link, sources
            continue
        values = counters(view.kernel, found, tuple(COUNTED))
        yield (
            link_cells(view, found) | dict(zip((column.name for column in COUNTERS), values, strict=True)),
            sources,
        )
