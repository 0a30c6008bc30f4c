"""Requests on netlink sockets of the snapshot's kernel, and its answers."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.netlink_socket import open_netlink_socket
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.guest.descriptors import LARGEST_READ, Descriptor
from hybridbridge_vol.guest.endless import joined
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.netlink.messages import dump_request, is_last

_MSG_DONTWAIT = 0x40  # include/linux/socket.h
_MOST_SOCKETS = 64
"""Network namespaces whose sockets are kept open."""


class NetlinkDumps:
    """Dumps of one netlink protocol (NETLINK_*). Its sockets, one for each network namespace that was asked
    in, stay open for the next request, until a call that is rolled back closes them, or somebody wants to
    see the guest's own (`ProxyCalls.show_no_own_sockets`)."""

    def __init__(self, proxy: ProxyCalls, protocol: int) -> None:
        self._proxy = proxy
        self._protocol = protocol
        self._sockets: dict[int | None, Descriptor] = {}

    def dump(
        self, source: str, kind: int, body: bytes, net_of: int | None = None, is_list: bool = True
    ) -> bytes:
        """All that a request for a kind of message is answered with: the kernel's messages, one after the
        other; `source` names the answer. `is_list` is as in a NetlinkRequest. In the network
        namespace of the process `net_of`, by default that of the session. EndlessFile; OSError with the
        kernel's errno; CallRolledBack."""
        socket = self._opened(net_of).number
        request = dump_request(kind, body, is_list)
        self._proxy.checked(source, "sendto", socket, self._proxy.buffer(request), len(request), 0, 0, 0)
        self._proxy.labels.forget(source)
        return joined(source, self._messages(source, socket), self._proxy.patience)

    def _opened(self, net_of: int | None) -> Descriptor:
        socket = self._sockets.get(net_of)
        if socket is None or not socket.is_open:
            if len(self._sockets) >= _MOST_SOCKETS:
                self._proxy.caller.roll_back()
                self._sockets.clear()
            try:
                opened = open_netlink_socket(self._proxy.caller, self._protocol, net_of)
            except AttachError as error:
                raise OSError(errno.EOPNOTSUPP, str(error), "netlink") from None
            socket = self._sockets[net_of] = Descriptor(self._proxy.caller, opened)
            self._proxy.own_sockets_since = self._proxy.caller.generation
        return socket

    def _messages(self, source: str, socket: int) -> Iterator[bytes]:
        while True:
            buffer = self._proxy.buffer()
            size = self._proxy.checked(source, "recvfrom", socket, buffer, LARGEST_READ, _MSG_DONTWAIT, 0, 0)
            part = self._proxy.answer(source, min(size, LARGEST_READ), more=True)
            yield part
            if is_last(part):
                return
