"""uname: the names of the system."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool


class Uname(Tool):
    name = "uname"
    help = "Kernel name, host name, release, version and machine"
    notes = "Calls uname(2), as the command does."
    columns = (
        Column("SYSNAME", "str", "the kernel's name"),
        Column("NODENAME", "str", "the host name"),
        Column("RELEASE", "str", "kernel release, as in the name of its package"),
        Column("VERSION", "str", "build number, configuration and time"),
        Column("MACHINE", "str", "hardware name"),
        Column("DOMAINNAME", "str", "NIS domain, `(none)` where unset"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        yield Row(tuple(kernel.system.uname()), sources=(Source("uname"),))


TOOL = Uname()
