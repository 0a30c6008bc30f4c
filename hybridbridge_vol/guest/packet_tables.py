"""The snapshot's tables of iptables, ip6tables and arptables, as getsockopt(2) gives them.

Which protocol family has which filter options is a list that the modules of these tables are on
(net/netfilter/nf_sockopt.c, `nf_getsockopt`). It is called with a socket of the proxy task's that stands in
the snapshot's network namespace: nothing else of the socket counts.
"""

from __future__ import annotations

import errno
import struct

from hybridbridge_vol.bridge.objects.moved_socket import open_moved_datagram_socket
from hybridbridge_vol.errors import AttachError, kernel_error
from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.guest.proxy_calls import BUFFER_SIZE, ProxyCalls
from hybridbridge_vol.machine.machine import UnmappedVirtual


class SnapshotPacketTables:
    """Implements `guest.kernel_network.PacketTables`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    def option(self, family: int, name: int, content: bytes, size: int, net_of: int | None = None) -> bytes:
        """See `guest.kernel_network.PacketTables`."""
        source = f"getsockopt {family} {name}"
        if size > BUFFER_SIZE:
            raise OSError(errno.EFBIG, f"{size} bytes, more than fit", source)
        caller = self._proxy.caller
        try:
            fd, sock = open_moved_datagram_socket(caller, net_of)
            buffer = self._proxy.buffer(content)
            size_vaddr = caller.put_words(size)
            answer = signed32(self._proxy.function("nf_getsockopt", sock, family, name, buffer, size_vaddr))
            given = min(struct.unpack("<i", caller.machine.read(size_vaddr, 4))[0], size)
        except (KeyError, ValueError, UnmappedVirtual, AttachError) as error:
            raise OSError(
                errno.EOPNOTSUPP, f"this kernel's packet filters cannot be asked: {error}", source
            ) from None
        if answer < 0:
            raise kernel_error(answer, source)
        self._proxy.labels.forget(source)
        data = self._proxy.answer(source, max(given, 0))
        self._proxy.raw("close", fd)
        return data
