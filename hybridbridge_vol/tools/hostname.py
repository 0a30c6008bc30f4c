"""hostname: the name of the host."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool

_FIELD = 65
"""Bytes of each name in `struct new_utsname` (include/uapi/linux/utsname.h): sysname, nodename, ...
domainname."""
_SHOWN = (Source("uname", _FIELD, 2 * _FIELD), Source("uname", 5 * _FIELD, 6 * _FIELD))


class Hostname(Tool):
    name = "hostname"
    help = "The host name"
    notes = "Calls uname(2), as the command does. Names that only DNS has are not in the kernel's memory."
    columns = (
        Column("HOSTNAME", "str", "the host name as it was set"),
        Column("DOMAINNAME", "str", "NIS domain, `(none)` where unset"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        names = kernel.system.uname()
        yield Row((names.nodename, names.domainname), sources=_SHOWN)


TOOL = Hostname()
