"""A socket of the trusted kernel's that works on the snapshot.

It is made by the trusted kernel's own code in its own network namespace. Then its operations are replaced by
the twin's, and its namespace by the snapshot's. Both are found by value. All that the twin writes on the way
(the socket in the snapshot's tables, above all) goes to copy-on-write pages.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.objects.struct_socket import struct_socket
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError, pointer_error
from hybridbridge_vol.machine.words import read_words
from hybridbridge_vol.units import U64

_AF_INET, _SOCK_DGRAM = 2, 2
_OBJECT_SIZE = 128
"""Bytes of struct socket (include/linux/net.h), and of struct sock (include/net/sock.h), in which pointers
are looked for."""


def _net_place(caller: Caller) -> int:
    """Where the proxy task's nsproxy points to its network namespace: a virtual address."""
    return next(vaddr for vaddr, name in caller.bridge.namespaces.items() if name == "init_net")


def _net_of(caller: Caller, pid: int | None) -> int:
    """The `struct net` of a process, as the snapshot's kernel finds it (net/core/net_namespace.c,
    `get_net_ns_by_pid`), by default the session's: its virtual address. OSError if the process has none any
    more, AttachError if it leads out of the image."""
    if pid is None:
        return caller.bridge.machine.read_u64(_net_place(caller))
    net = caller.call(caller.bridge.snapshot("get_net_ns_by_pid"), pid, label="get_net_ns_by_pid")
    if (error := pointer_error(net, f"the network namespace of process {pid}")) is not None:
        raise error
    if not caller.bridge.may_be_snapshot(net & U64):
        raise AttachError(f"the network namespace of process {pid} leads out of the image")
    return net & U64


def open_moved_socket(
    caller: Caller, kind: tuple[int, int, int], operations: str, net_of: int | None = None
) -> tuple[int, int]:
    """A descriptor of the proxy task's and the virtual address of its `struct sock`. `kind` is as socket(2)
    takes it, `operations` names the table of its operations. The socket stands in the network namespace of
    the process `net_of`, by default in the session's.

    OSError with the kernel's errno, CallRolledBack; AttachError if that namespace leads out of the image;
    KeyError or ValueError if what is to be replaced is not found.
    """
    bridge, machine, net = caller.bridge, caller.bridge.machine, _net_of(caller, net_of)
    fd = _open_at_home(caller, kind)
    socket, home_net = struct_socket(caller, fd), bridge.home("init_net")
    words = read_words(machine, socket, _OBJECT_SIZE)
    machine.write_u64(socket + 8 * words.index(bridge.home(operations)), bridge.snapshot(operations))
    for vaddr in words:
        # only what lies where the trusted kernel's objects do can be the sock
        inner = read_words(machine, vaddr, _OBJECT_SIZE) if vaddr in bridge.boot.layout else []
        if home_net in inner:
            machine.write_u64(vaddr + 8 * inner.index(home_net), net)
            return fd, vaddr
    raise ValueError


def open_moved_datagram_socket(caller: Caller, net_of: int | None = None) -> tuple[int, int]:
    """The same of IPv4's datagrams."""
    return open_moved_socket(caller, (_AF_INET, _SOCK_DGRAM, 0), "inet_dgram_ops", net_of)


def _open_at_home(caller: Caller, kind: tuple[int, int, int]) -> int:
    """A socket in the trusted kernel's network namespace, whose per-CPU counters are counted while it is
    made. OSError if it cannot be made."""
    bridge, machine, place = caller.bridge, caller.bridge.machine, _net_place(caller)
    snapshot_net = machine.read_u64(place)
    machine.write_u64(place, bridge.home("init_net"))
    try:
        fd = caller.syscall("socket", *kind)
    finally:
        machine.write_u64(place, snapshot_net)
    if fd < 0:
        raise OSError(-fd, "no socket could be made")
    return fd
