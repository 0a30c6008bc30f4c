"""The snapshot's routing tables, by requests on a netlink socket."""

from __future__ import annotations

from hybridbridge_vol.guest.netlink_dumps import NetlinkDumps
from hybridbridge_vol.guest.proxy_calls import ProxyCalls

_NETLINK_ROUTE = 0  # include/uapi/linux/netlink.h


class SnapshotRouteTables:
    """Implements `guest.kernel_network.RouteTables`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._dumps = NetlinkDumps(proxy, _NETLINK_ROUTE)

    def dump(self, kind: int, body: bytes) -> bytes:
        """All entries of a kind (RTM_GET*): the kernel's messages, one after the other. EndlessFile."""
        return self._dumps.dump(f"rtnetlink {kind}", kind, body)
