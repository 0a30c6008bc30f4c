"""A netlink socket between the proxy task and the snapshot's routing tables (net/netlink/af_netlink.c,
net/core/rtnetlink.c).

The socket is the trusted kernel's, made by its own code in its own network namespace. Then it is moved over:
its operations become the twin's, and its namespace the snapshot's, so that a request travels through the
snapshot's table of sockets to the snapshot's kernel. The places of both are found by value. All that the twin
writes on its way (the socket in the snapshot's table, above all) goes to copy-on-write pages.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

_AF_NETLINK, _SOCK_RAW, _NETLINK_ROUTE = 16, 3, 0
_SOCKET_SIZE = 128
"""Bytes of struct socket (include/linux/net.h), and of struct sock (include/net/sock.h), in which both are
looked for."""


def open_route_socket(caller: Caller) -> int:
    """A descriptor of the proxy task's on which the snapshot's kernel answers rtnetlink requests.

    Raises CallRolledBack, OSError with the kernel's errno, or AttachError if the socket is not as it should
    be.
    """
    bridge, machine = caller.bridge, caller.bridge.machine
    net_place = next(place for place, name in bridge.namespaces.items() if name == "init_net")
    snapshot_net = machine.read_u64(net_place)
    try:
        home_net, home_ops, lookup = (
            bridge.home(name) for name in ("init_net", "netlink_ops", "sockfd_lookup")
        )
        machine.write_u64(
            net_place, home_net
        )  # per-CPU counters of the namespace are counted while the socket is made
        try:
            fd = caller.syscall("socket", _AF_NETLINK, _SOCK_RAW, _NETLINK_ROUTE)
        finally:
            machine.write_u64(net_place, snapshot_net)
        if fd < 0:
            raise OSError(-fd, "no netlink socket could be made")
        socket = caller.call(lookup, fd, caller.put(bytes(8)), label="sockfd_lookup") & U64
        words = _words(caller, socket)
        machine.write_u64(socket + 8 * words.index(home_ops), bridge.snapshot("netlink_ops"))
        for word in words:
            inner = (
                _words(caller, word) if word in bridge.boot.layout else []
            )  # where the trusted kernel's objects lie
            if home_net in inner:
                machine.write_u64(word + 8 * inner.index(home_net), snapshot_net)
                break
        else:
            raise ValueError
    except (KeyError, ValueError, UnmappedVirtual):
        raise AttachError(
            f"{bridge.kernel.name}: this kernel's netlink sockets are of a form unknown here"
        ) from None
    caller.hybrid.forget_labels()
    return fd


def _words(caller: Caller, vaddr: int) -> list[int]:
    words: list[int] = []
    for offset in range(0, _SOCKET_SIZE, 8):
        try:
            words.append(caller.bridge.machine.read_u64(vaddr + offset))
        except UnmappedVirtual:
            break
    return words
