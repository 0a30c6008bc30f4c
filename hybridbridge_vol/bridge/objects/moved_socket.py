"""A socket of the trusted kernel's that works on the snapshot.

It is made by the trusted kernel's own code in its own network namespace. Then its operations are replaced by
the twin's, and its namespace by the snapshot's. Both are found by value. All that the twin writes on the way
(the socket in the snapshot's tables, above all) goes to copy-on-write pages.
"""

from __future__ import annotations

import os

from hybridbridge_vol.bridge.objects.struct_socket import struct_socket
from hybridbridge_vol.bridge.objects.words import read_words
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.units import U64

_MAX_ERRNO = 4095  # include/linux/err.h
_OBJECT_SIZE = 128
"""Bytes of struct socket (include/linux/net.h), and of struct sock (include/net/sock.h), in which pointers
are looked for."""


def net_vaddr(caller: Caller) -> int:
    """Where the proxy task's nsproxy points to its network namespace."""
    return next(vaddr for vaddr, name in caller.bridge.namespaces.items() if name == "init_net")


def session_net(caller: Caller) -> int:
    """The `struct net` that the session sees: its virtual address."""
    return caller.bridge.machine.read_u64(net_vaddr(caller))


def net_of_process(caller: Caller, pid: int) -> int:
    """The `struct net` of a process, as the snapshot's kernel finds it (net/core/net_namespace.c,
    `get_net_ns_by_pid`). OSError if it has none any more, AttachError if it leads out of the image."""
    net = caller.call(caller.bridge.snapshot("get_net_ns_by_pid"), pid, label="get_net_ns_by_pid")
    if -_MAX_ERRNO <= net < 0:
        raise OSError(-net, os.strerror(-net), f"the network namespace of process {pid}")
    if not caller.bridge.may_be_snapshot(net & U64):
        raise AttachError(f"the network namespace of process {pid} leads out of the image")
    return net & U64


def open_moved_socket(
    caller: Caller, kind: tuple[int, int, int], operations: str, net: int
) -> tuple[int, int]:
    """A descriptor of the proxy task's and the virtual address of its `struct sock`. `kind` is as socket(2)
    takes it, `operations` names the table of its operations, `net` is the snapshot's `struct net`.

    OSError with the kernel's errno, CallRolledBack; KeyError or ValueError if what is to be replaced is not
    found.
    """
    bridge, machine = caller.bridge, caller.bridge.machine
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


def _open_at_home(caller: Caller, kind: tuple[int, int, int]) -> int:
    """A socket in the trusted kernel's network namespace, whose per-CPU counters are counted while it is
    made. OSError if it cannot be made."""
    bridge, machine, place = caller.bridge, caller.bridge.machine, net_vaddr(caller)
    snapshot_net = machine.read_u64(place)
    machine.write_u64(place, bridge.home("init_net"))
    try:
        fd = caller.syscall("socket", *kind)
    finally:
        machine.write_u64(place, snapshot_net)
    if fd < 0:
        raise OSError(-fd, "no socket could be made")
    return fd
