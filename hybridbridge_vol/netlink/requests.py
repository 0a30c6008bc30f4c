"""What can be asked of any netlink protocol, as data."""

from __future__ import annotations

from typing import NamedTuple

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_XFRM, NETLINK_AUDIT, NETLINK_NETFILTER = 0, 4, 6, 9, 12
NETLINK_GENERIC = 16
"""include/uapi/linux/netlink.h."""


class NetlinkRequest(NamedTuple):
    """A request for all of a kind, or with `is_list` False for the one that there is. `source` names its
    answer. `modules` are those without which nobody answers: they are added where the guest had not loaded
    them, if `needs` is loaded (always, if that is empty); otherwise there is nothing to be asked for. A
    kernel that has the symbol `built_in` has all of it in its image."""

    source: str
    protocol: int
    kind: int
    body: bytes
    modules: tuple[str, ...] = ()
    needs: str = ""
    built_in: str = ""
    is_list: bool = True
