"""The snapshot's routing tables, by requests on a netlink socket."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.route_socket import open_route_socket
from hybridbridge_vol.guest.descriptors import LARGEST_READ, Descriptor
from hybridbridge_vol.guest.endless import joined
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.netlink.rtnetlink import dump_request, is_last

_MSG_DONTWAIT = 0x40  # include/linux/socket.h


class SnapshotRouteTables:
    """Implements `guest.kernel.RouteTables`. The socket stays open for the next request, until a call that is
    rolled back closes it."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy
        self._socket: Descriptor | None = None

    def dump(self, kind: int, body: bytes) -> bytes:
        """All entries of a kind (RTM_GET*): the kernel's messages, one after the other. EndlessFile."""
        source, socket = f"rtnetlink {kind}", self._opened().number
        request = dump_request(kind, body)
        self._proxy.checked(source, "sendto", socket, self._proxy.buffer(request), len(request), 0, 0, 0)
        self._proxy.labels.forget(source)
        return joined(source, self._messages(source, socket), self._proxy.under_taint)

    def _opened(self) -> Descriptor:
        if self._socket is None or not self._socket.is_open:
            self._socket = Descriptor(self._proxy.caller, open_route_socket(self._proxy.caller))
        return self._socket

    def _messages(self, source: str, socket: int) -> Iterator[bytes]:
        while True:
            buffer = self._proxy.buffer()
            size = self._proxy.checked(source, "recvfrom", socket, buffer, LARGEST_READ, _MSG_DONTWAIT, 0, 0)
            part = self._proxy.answer(source, min(size, LARGEST_READ), more=True)
            yield part
            if is_last(part):
                return
