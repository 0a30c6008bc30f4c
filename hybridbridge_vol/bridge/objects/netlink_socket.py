"""A netlink socket between the proxy task and the snapshot's kernel (net/netlink/af_netlink.c): its routing
tables (net/core/rtnetlink.c), its sockets (net/core/sock_diag.c).

It is made for generic netlink and moved to the snapshot (bridge/objects/moved_socket.py); then its protocol,
found by value, too, is replaced by the one that is wanted, so that a request travels through the snapshot's
table of sockets to the snapshot's kernel.
"""

from __future__ import annotations

import struct

from hybridbridge_vol.bridge.objects.moved_socket import open_moved_socket
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.kernel_file.struct_sizes import StructSizes, in_usual_or_larger
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.machine.words import read_mapped

_AF_NETLINK, _SOCK_RAW, _NETLINK_GENERIC = 16, 3, 16
_TYPE_AND_PROTOCOL = (
    struct.pack("<HH", _SOCK_RAW, _NETLINK_GENERIC),
    struct.pack("<HH", _NETLINK_GENERIC, _SOCK_RAW),
)
"""sk_type and sk_protocol, neighbours in struct sock since 5.6; in 7.x the protocol comes first."""
_SETTER, _ROOM = "sock_set_rcvbuf", 1 << 28
"""Since 5.8; half the bytes that may wait, with what the kernel counts around them: more than it has memory
for."""


def open_netlink_socket(caller: Caller, protocol: int, net_of: int | None = None) -> int:
    """A descriptor of the proxy task's on which the snapshot's kernel answers requests of a protocol
    (NETLINK_*), in the network namespace of the process `net_of` (by default that of the session).

    Raises CallRolledBack, OSError with the kernel's errno, or AttachError if the socket is not as it should
    be.
    """
    try:
        kind = (_AF_NETLINK, _SOCK_RAW, _NETLINK_GENERIC)
        fd, sock = open_moved_socket(caller, kind, "netlink_ops", net_of)
        in_usual_or_larger(
            lambda sizes: _set_protocol(caller.bridge.machine, sock, protocol, sizes), ValueError
        )
        _make_room(caller, sock)
    except (KeyError, ValueError, UnmappedVirtual):
        raise AttachError(
            f"{caller.bridge.kernel.name}: this kernel's netlink sockets have an unknown form"
        ) from None
    caller.hybrid.forget_labels()
    return fd


def _make_room(caller: Caller, sock: int) -> None:
    """Let more wait in a socket: what answers all at once would wait until some of it is read, for ever."""
    if _SETTER in caller.bridge.kernel.symbols:
        caller.call(caller.bridge.home(_SETTER), sock, _ROOM, label=_SETTER)


def _set_protocol(machine: Machine, sock: int, protocol: int, sizes: StructSizes) -> None:
    """ValueError if a `struct sock` has no protocol, or more than one place that may be it."""
    data = read_mapped(machine, sock, sizes.sock)
    places = [at for at in range(0, len(data) - 3, 2) if data[at : at + 4] in _TYPE_AND_PROTOCOL]
    if len(places) != 1:
        raise ValueError
    (at,) = places
    generic, wanted = (struct.pack("<H", number) for number in (_NETLINK_GENERIC, protocol))
    machine.write(sock + at, data[at : at + 4].replace(generic, wanted))
