"""System calls that report about the whole machine."""

from __future__ import annotations

from hybridbridge_vol.guest.abi import SYSINFO_SIZE, UNAME_SIZE, parse_sysinfo, parse_uname
from hybridbridge_vol.guest.proxy_calls import BUFFER_SIZE, ProxyCalls
from hybridbridge_vol.guest.values import Sysinfo, Uname


class SnapshotSystem:
    """Implements `guest.kernel.System`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    def uname(self) -> Uname:
        """The names of the system, from the snapshot's own UTS namespace."""
        self._proxy.checked("newuname", "newuname", self._proxy.buffer())
        return parse_uname(self._proxy.answer("uname", UNAME_SIZE))

    def sysinfo(self) -> Sysinfo:
        """Memory, load and uptime."""
        self._proxy.checked("sysinfo", "sysinfo", self._proxy.buffer(), side="twin")
        return parse_sysinfo(self._proxy.answer("sysinfo", SYSINFO_SIZE))

    def syslog(self, action: int, size: int) -> bytes:
        """`syslog(2)`: the kernel's log buffer (action 3 reads it, 10 asks for its size)."""
        size = min(size, BUFFER_SIZE)
        count = self._proxy.checked("syslog", "syslog", action, self._proxy.buffer(), size, side="twin")
        return self._proxy.answer("syslog", min(count, size))
