"""A netlink socket between the proxy task and the snapshot's routing tables (net/netlink/af_netlink.c,
net/core/rtnetlink.c).

The socket is the trusted kernel's, made by its own code in its own network namespace. Then its operations are
replaced by the twin's, and its namespace by the snapshot's, so that a request travels through the snapshot's
table of sockets to the snapshot's kernel. Both pointers are found by value. All that the twin writes on the
way (the socket in the snapshot's table, above all) goes to copy-on-write pages.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.objects.words import read_words
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

_AF_NETLINK, _SOCK_RAW, _NETLINK_ROUTE = 16, 3, 0
_OBJECT_SIZE = 128
"""Bytes of struct socket (include/linux/net.h), and of struct sock (include/net/sock.h), in which pointers
are looked for."""


def open_route_socket(caller: Caller) -> int:
    """A descriptor of the proxy task's on which the snapshot's kernel answers rtnetlink requests.

    Raises CallRolledBack, OSError with the kernel's errno, or AttachError if the socket is not as it should
    be.
    """
    bridge = caller.bridge
    try:
        fd = _open_at_home(caller)
        lookup = bridge.home("sockfd_lookup")
        socket = caller.call(lookup, fd, caller.put(bytes(8)), label="sockfd_lookup") & U64
        _move_to_snapshot(caller, socket)
    except (KeyError, ValueError, UnmappedVirtual):
        raise AttachError(
            f"{bridge.kernel.name}: this kernel's netlink sockets have an unknown form"
        ) from None
    caller.hybrid.forget_labels()
    return fd


def _net_vaddr(caller: Caller) -> int:
    """Where the proxy task's nsproxy points to its network namespace."""
    return next(vaddr for vaddr, name in caller.bridge.namespaces.items() if name == "init_net")


def _open_at_home(caller: Caller) -> int:
    """A netlink socket in the trusted kernel's network namespace, whose per-CPU counters are counted while it
    is made. OSError if it cannot be made."""
    bridge, machine, net_vaddr = caller.bridge, caller.bridge.machine, _net_vaddr(caller)
    snapshot_net = machine.read_u64(net_vaddr)
    machine.write_u64(net_vaddr, bridge.home("init_net"))
    try:
        fd = caller.syscall("socket", _AF_NETLINK, _SOCK_RAW, _NETLINK_ROUTE)
    finally:
        machine.write_u64(net_vaddr, snapshot_net)
    if fd < 0:
        raise OSError(-fd, "no netlink socket could be made")
    return fd


def _move_to_snapshot(caller: Caller, socket: int) -> None:
    """Give a `struct socket` the twin's operations, and its `struct sock` the snapshot's namespace.
    ValueError if a pointer is not found."""
    bridge, machine = caller.bridge, caller.bridge.machine
    home_net, snapshot_net = bridge.home("init_net"), machine.read_u64(_net_vaddr(caller))
    words = read_words(machine, socket, _OBJECT_SIZE)
    operations = words.index(bridge.home("netlink_ops"))
    machine.write_u64(socket + 8 * operations, bridge.snapshot("netlink_ops"))
    for vaddr in words:
        # only what lies where the trusted kernel's objects do can be the sock
        inner = read_words(machine, vaddr, _OBJECT_SIZE) if vaddr in bridge.boot.layout else []
        if home_net in inner:
            machine.write_u64(vaddr + 8 * inner.index(home_net), snapshot_net)
            return
    raise ValueError
