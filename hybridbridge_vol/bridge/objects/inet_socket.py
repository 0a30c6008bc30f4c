"""A datagram socket in the snapshot's network namespace, for the ioctls of netdevice(7)."""

from __future__ import annotations

from hybridbridge_vol.bridge.objects.moved_socket import open_moved_datagram_socket
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine.machine import UnmappedVirtual


def open_inet_socket(caller: Caller) -> int:
    """A descriptor of the proxy task's. Nothing is ever sent on it. CallRolledBack, OSError, or AttachError
    if the socket is not as it should be."""
    try:
        fd, _sock = open_moved_datagram_socket(caller)
    except (KeyError, ValueError, UnmappedVirtual):
        raise AttachError(
            f"{caller.bridge.kernel.name}: this kernel's sockets have an unknown form"
        ) from None
    caller.hybrid.forget_labels()
    return fd


def socket_ioctl(caller: Caller, fd: int, command: int, argument_vaddr: int) -> int:
    """ioctl(2) on such a descriptor by the snapshot's kernel (net/socket.c, `sock_ioctl`); its answer, a
    negative errno included. CallRolledBack, KeyError."""
    bridge = caller.bridge
    file_vaddr = caller.call(bridge.home("fget"), fd, label="fget")
    return caller.call(bridge.snapshot("sock_ioctl"), file_vaddr, command, argument_vaddr, label="sock_ioctl")
