"""maps: the memory mappings of processes."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.maps import Mapping, entries
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen, read_maps

_SIZES = (
    ("RSS", ("Rss",), "KiB in memory"),
    ("PSS", ("Pss",), "KiB in memory, pages that several processes map counted by their share"),
    ("SHARED", ("Shared_Clean", "Shared_Dirty"), "KiB of RSS that other processes map too"),
    ("PRIVATE", ("Private_Clean", "Private_Dirty"), "KiB of RSS that no other process maps"),
    ("DIRTY", ("Shared_Dirty", "Private_Dirty"), "KiB of RSS that were written to"),
    ("ANON", ("Anonymous",), "KiB of RSS that do not belong, or no longer belong, to a file"),
    ("SWAP", ("Swap",), "KiB that are swapped out"),
    ("LOCKED", ("Locked",), "KiB that are locked in memory"),
)


class Maps(Tool):
    name = "maps"
    help = "Memory mappings of processes, as `pmap` shows them"
    notes = (
        "Reads /proc/PID/maps, with --smaps /proc/PID/smaps; where that cannot be read, mappings are listed "
        "without sizes. A kernel thread and a zombie have no mappings. "
        "`hb run DUMP memdump PID` writes their content."
    )
    example = "--pid 1 --smaps"
    options = (
        PID,
        Option("smaps", bool, "also how much of each is in memory, shared, written to, swapped out"),
    )
    columns = (
        Column("PID", "int", "process id"),
        Column("START", "hex", "first address"),
        Column("END", "hex", "address after the last"),
        Column("PERM", "str", "r read, w write, x execute; p private (copied on write) or s shared"),
        Column("OFFSET", "hex", "offset in the file"),
        Column("DEVICE", "str", "device of the file, major:minor"),
        Column("INODE", "int", "inode number of the file, 0 for none"),
        Column("SIZE", "int", "KiB of address space"),
        Column("PATH", "str", "the file; [heap], [stack], [vdso]; nothing for anonymous memory"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if not options["smaps"]:
            return self.columns
        sizes = (Column(name, "int", help_) for name, _keys, help_ in _SIZES)
        return (*self.columns[:-1], *sizes, self.columns[-1])

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        width = len(self.columns_for(options)) - 1
        for pid in chosen(kernel, options):
            path = f"/proc/{pid}/{'smaps' if options['smaps'] else 'maps'}"
            data, read_error = read_maps(kernel.files, path)
            why_unsized: Unavailable | None = None
            if read_error and options["smaps"]:  # the mappings are known nonetheless
                path, why_unsized = f"/proc/{pid}/maps", read_error
                data, read_error = read_maps(kernel.files, path)
            for mapping, sizes, source in entries(path, data):
                if isinstance(mapping, Mapping):
                    cells = _cells(mapping, sizes, options["smaps"], why_unsized)
                    yield Row((pid, *cells), sources=(source,))
                else:
                    yield Row((pid, *[Unavailable(f"{path}: {mapping}")] * width), sources=(source,))
            if read_error:
                yield Row((pid, *[read_error] * width))


def _cells(
    mapping: Mapping, sizes: dict[str, int], smaps: bool, why_unsized: Unavailable | None
) -> Iterator[Cell]:
    yield from (mapping.start_vaddr, mapping.end_vaddr, mapping.permissions, mapping.offset)
    yield from (mapping.device, mapping.inode, mapping.size // 1024)
    if smaps:
        for _name, keys, _help in _SIZES:
            yield sum(sizes[key] for key in keys) if all(key in sizes for key in keys) else why_unsized
    yield mapping.path


TOOL = Maps()
