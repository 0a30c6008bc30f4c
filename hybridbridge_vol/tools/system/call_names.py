"""The names of system calls of x86-64, by the trusted kernel's own table of them."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

_TABLE, _PREFIX = "sys_call_table", "__x64_sys_"
_OF_USER_MODE = {
    "newstat": "stat", "newfstat": "fstat", "newlstat": "lstat", "newuname": "uname", "pread64": "pread",
    "pwrite64": "pwrite", "sendfile64": "sendfile", "umount": "umount2", "ni_syscall": "",
}  # fmt: skip
"""Calls whose name in user mode is not that of their function (arch/x86/entry/syscalls/syscall_64.tbl)."""


class CallNames:
    """Those of one trusted kernel."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        symbols = bridge.kernel.symbols
        self._count = symbols.size(_TABLE) // 8 if _TABLE in symbols else 0

    def name(self, number: int) -> str:
        """Of a call by its number; empty if there is none."""
        if not 0 <= number < self._count:
            return ""
        try:
            function = self._bridge.machine.read_u64(self._bridge.home(_TABLE) + 8 * number)
        except UnmappedVirtual:
            return ""
        symbols = self._bridge.kernel.symbols.names_at(function - self._bridge.home_delta & U64)
        names = [name.removeprefix(_PREFIX) for _kind, name in symbols if name.startswith(_PREFIX)]
        return _OF_USER_MODE.get(names[0], names[0]) if names else ""
