"""lsmod: the modules in the kernel."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import EndlessFile, MissingRecords
from hybridbridge_vol.procfs.sources import lines
from hybridbridge_vol.procfs.system import Module, parse_module
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool

_PATH = "/proc/modules"


class Lsmod(Tool):
    name = "lsmod"
    help = "Loaded kernel modules, their users, state and address"
    notes = (
        "Reads /proc/modules. A module that has unlinked itself from the kernel's list is not in it: "
        "`hidden` searches for such modules."
    )
    columns = (
        Column("MODULE", "str", "name of the module"),
        Column("SIZE", "int", "bytes of memory"),
        Column("USED", "int", "number of references to it"),
        Column("STATE", "str", "Live, Loading or Unloading"),
        Column("ADDRESS", "hex", "virtual address of its code"),
        Column("TAINTS", "str", "O out of tree, E unsigned, P proprietary, F forced, C staging"),
        Column("BY", "str", "the modules that use it; [permanent]: cannot be unloaded"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        data, lack = _read(kernel.files)
        seen: set[bytes] = set()
        for line, source in lines(_PATH, data):
            if lack is not None and line in seen:
                break
            seen.add(line)
            try:
                yield Row(_cells(parse_module(line)), sources=(source,))
            except ParseError as error:
                yield Row((Unavailable(f"{_PATH}: {error}"),) * len(self.columns))
        if lack is not None:
            yield Row((lack,) * len(self.columns))


def _read(files: Files) -> tuple[bytes, Unavailable | None]:
    """The list, and what is wrong with it if it does not end, or lacks modules."""
    try:
        return files.read(_PATH), None
    except EndlessFile as error:
        return error.partial, Unavailable(f"{_PATH}: the kernel's list of modules is cyclic")
    except MissingRecords as error:
        return error.partial, why(_PATH, error)


def _cells(module: Module) -> tuple[Cell, ...]:
    users = ",".join(module.users + (("[permanent]",) if module.permanent else ()))
    return (
        module.name, module.size, module.references, module.state, module.address_vaddr, module.taints, users,
    )  # fmt: skip


TOOL = Lsmod()
