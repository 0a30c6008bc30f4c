"""ip link: interfaces and their counters."""

from __future__ import annotations

from hybridbridge_vol.netlink.ip_names import HARDWARE, LINK_FLAGS, NO_CARRIER, names_of
from hybridbridge_vol.netlink.rtnetlink import Link
from hybridbridge_vol.procfs.net_dev import IFF_RUNNING, IFF_UP
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.view import (
    ADDRESS,
    BRD,
    FAMILY,
    FLAGS,
    IFACE,
    IFINDEX,
    MTU,
    QDISC,
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


def link_cells(view: View, found: Found) -> dict[str, Cell]:
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
