"""What can be asked of any netlink protocol, as data."""

from __future__ import annotations

from typing import NamedTuple

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_XFRM, NETLINK_NETFILTER, NETLINK_GENERIC = 0, 4, 6, 12, 16
"""include/uapi/linux/netlink.h."""


class NetlinkRequest(NamedTuple):
    """A request for all of a kind. `source` names its answer. `modules` are those without which nobody
    answers: they are added where the guest had not loaded them, if `needs` is loaded (always, if that is
    empty); otherwise there is nothing to be asked for. A kernel that has the symbol `built_in` has all of it
    in its image."""

    source: str
    protocol: int
    kind: int
    body: bytes
    modules: tuple[str, ...] = ()
    needs: str = ""
    built_in: str = ""
