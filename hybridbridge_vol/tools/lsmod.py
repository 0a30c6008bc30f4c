"""lsmod: the modules in the kernel."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.procfs.sources import lines
from hybridbridge_vol.procfs.system import parse_module
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool


class Lsmod(Tool):
    name = "lsmod"
    help = "Loaded kernel modules, their users, state and address"
    notes = "Reads /proc/modules. A module that has unlinked itself from the kernel's list is not in it."
    columns = (
        Column("MODULE", "str", "name"),
        Column("SIZE", "int", "bytes of memory"),
        Column("USED", "int", "how often it is in use"),
        Column("STATE", "str", "Live, Loading or Unloading"),
        Column("ADDRESS", "hex", "where it starts, virtual"),
        Column("TAINTS", "str", "O out of tree, E unsigned, P proprietary, F forced, C staging"),
        Column("BY", "str", "the modules that use it; [permanent]: cannot be unloaded"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        gap = None
        try:
            data = kernel.files.read("/proc/modules")
        except EndlessFile as error:
            data, gap = (
                error.partial,
                Unavailable("/proc/modules: the kernel's list of modules leads back into itself"),
            )
        seen: set[bytes] = set()
        for line, source in lines("/proc/modules", data):
            if gap and line in seen:
                yield Row((gap,) * len(self.columns))
                return
            seen.add(line)
            try:
                module = parse_module(line)
            except ParseError as error:
                yield Row((Unavailable(f"/proc/modules: {error}"),) * len(self.columns))
                continue
            users = ",".join(module.users + (("[permanent]",) if module.permanent else ()))
            yield Row(
                (
                    module.name,
                    module.size,
                    module.references,
                    module.state,
                    module.address_vaddr,
                    module.taints,
                    users,
                ),
                sources=(source,),
            )


TOOL = Lsmod()
