"""A netlink socket between the proxy task and the snapshot's kernel (net/netlink/af_netlink.c): its routing
tables (net/core/rtnetlink.c), its sockets (net/core/sock_diag.c).

The socket is the trusted kernel's, made by its own code in its own network namespace, for generic netlink.
Then its operations are replaced by the twin's, its namespace by the snapshot's, and its protocol by the one
that is wanted, so that a request travels through the snapshot's table of sockets to the snapshot's kernel.
All three are found by value. All that the twin writes on the way (the socket in the snapshot's table, above
all) goes to copy-on-write pages.
"""

from __future__ import annotations

import os
import struct

from hybridbridge_vol.bridge.objects.struct_socket import struct_socket
from hybridbridge_vol.bridge.objects.words import read_words
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.units import U64

_AF_NETLINK, _SOCK_RAW, _NETLINK_GENERIC = 16, 3, 16
_TYPE_AND_PROTOCOL = (
    struct.pack("<HH", _SOCK_RAW, _NETLINK_GENERIC),
    struct.pack("<HH", _NETLINK_GENERIC, _SOCK_RAW),
)
"""sk_type and sk_protocol, neighbours in struct sock since 5.6; in 7.x the protocol comes first."""
_MAX_ERRNO = 4095  # include/linux/err.h
_OBJECT_SIZE = 128
"""Bytes of struct socket (include/linux/net.h), and of struct sock (include/net/sock.h), in which pointers
are looked for."""
_SOCK_SIZE = 768
"""Bytes of struct sock at the least: 5.10 has 760 of them, and netlink's own state follows."""


def open_netlink_socket(caller: Caller, protocol: int, net_of: int | None = None) -> int:
    """A descriptor of the proxy task's on which the snapshot's kernel answers requests of a protocol
    (NETLINK_*), in the network namespace of the process `net_of` (by default that of the session).

    Raises CallRolledBack, OSError with the kernel's errno, or AttachError if the socket is not as it should
    be.
    """
    bridge = caller.bridge
    try:
        net = _session_net(caller) if net_of is None else _net_of(caller, net_of)
        fd = _open_at_home(caller)
        _move_to_snapshot(caller, struct_socket(caller, fd), net, protocol)
    except (KeyError, ValueError, UnmappedVirtual):
        raise AttachError(
            f"{bridge.kernel.name}: this kernel's netlink sockets have an unknown form"
        ) from None
    caller.hybrid.forget_labels()
    return fd


def _net_vaddr(caller: Caller) -> int:
    """Where the proxy task's nsproxy points to its network namespace."""
    return next(vaddr for vaddr, name in caller.bridge.namespaces.items() if name == "init_net")


def _session_net(caller: Caller) -> int:
    """The `struct net` that the session sees: its virtual address."""
    return caller.bridge.machine.read_u64(_net_vaddr(caller))


def _net_of(caller: Caller, pid: int) -> int:
    """The `struct net` of a process, as the snapshot's kernel finds it (net/core/net_namespace.c,
    `get_net_ns_by_pid`). OSError if it has none any more, AttachError if it leads out of the image."""
    net = caller.call(caller.bridge.snapshot("get_net_ns_by_pid"), pid, label="get_net_ns_by_pid")
    if -_MAX_ERRNO <= net < 0:
        raise OSError(-net, os.strerror(-net), f"the network namespace of process {pid}")
    if not caller.bridge.may_be_snapshot(net & U64):
        raise AttachError(f"the network namespace of process {pid} leads out of the image")
    return net & U64


def _open_at_home(caller: Caller) -> int:
    """A netlink socket in the trusted kernel's network namespace, whose per-CPU counters are counted while it
    is made. OSError if it cannot be made."""
    bridge, machine, net_vaddr = caller.bridge, caller.bridge.machine, _net_vaddr(caller)
    snapshot_net = machine.read_u64(net_vaddr)
    machine.write_u64(net_vaddr, bridge.home("init_net"))
    try:
        fd = caller.syscall("socket", _AF_NETLINK, _SOCK_RAW, _NETLINK_GENERIC)
    finally:
        machine.write_u64(net_vaddr, snapshot_net)
    if fd < 0:
        raise OSError(-fd, "no netlink socket could be made")
    return fd


def _move_to_snapshot(caller: Caller, socket: int, snapshot_net: int, protocol: int) -> None:
    """Give a `struct socket` the twin's operations, and its `struct sock` a namespace of the snapshot and the
    protocol. ValueError if what is to be replaced is not found."""
    bridge, machine = caller.bridge, caller.bridge.machine
    home_net = bridge.home("init_net")
    words = read_words(machine, socket, _OBJECT_SIZE)
    operations = words.index(bridge.home("netlink_ops"))
    machine.write_u64(socket + 8 * operations, bridge.snapshot("netlink_ops"))
    for vaddr in words:
        # only what lies where the trusted kernel's objects do can be the sock
        inner = read_words(machine, vaddr, _OBJECT_SIZE) if vaddr in bridge.boot.layout else []
        if home_net in inner:
            machine.write_u64(vaddr + 8 * inner.index(home_net), snapshot_net)
            _set_protocol(machine, vaddr, protocol)
            return
    raise ValueError


def _set_protocol(machine: Machine, sock: int, protocol: int) -> None:
    """ValueError if a `struct sock` has no protocol, or more than one place that may be it."""
    data = machine.read(sock, _SOCK_SIZE)
    places = [at for at in range(0, _SOCK_SIZE - 3, 2) if data[at : at + 4] in _TYPE_AND_PROTOCOL]
    if len(places) != 1:
        raise ValueError
    (at,) = places
    generic, wanted = (struct.pack("<H", number) for number in (_NETLINK_GENERIC, protocol))
    machine.write(sock + at, data[at : at + 4].replace(generic, wanted))
