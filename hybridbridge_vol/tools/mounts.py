"""mounts: what is mounted where, as a process sees it."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.mounts import Mount, parse_mount
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.toolkit.tree import as_tree
from hybridbridge_vol.tools.process.listing import read_text


class Mounts(Tool):
    name = "mounts"
    help = "Mounted file systems, as `findmnt` shows them"
    notes = (
        "Reads /proc/PID/mountinfo: the mounts of the mount namespace of a process, below its root. A container's are "
        "those of a process in it."
    )
    example = "--pid 1 --tree"
    options = (
        Option("pid", int, "as these processes see it (default: process 1)", many=True),
        Option("tree", bool, "mounts below the mount they are on"),
    )
    columns = (
        Column("PID", "int", "whose view it is"),
        Column("ID", "int", "number of the mount"),
        Column("PARENT", "int", "number of the mount it is on"),
        Column("DEVICE", "str", "major:minor of its files"),
        Column("TYPE", "str", "file system"),
        Column("SOURCE", "str", "device or name, as it was given to mount"),
        Column("ROOT", "str", "the directory of the file system that is mounted; not / for bind mounts"),
        Column("TARGET", "str", "where it is mounted"),
        Column("PROPAGATION", "str", "shared:N, master:N, ...; nothing for a private mount"),
        Column("OPTIONS", "str", "options of the mount"),
        Column("SUPER", "str", "options of the file system"),
    )
    tree_column = "TARGET"

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for pid in dict.fromkeys(options["pid"] or (1,)):
            path = f"/proc/{pid}/mountinfo"
            data, gap = read_text(kernel, path)
            found: dict[int, Row] = {}
            parents: dict[int, int | None] = {}
            for line, source in lines(path, data):
                try:
                    mount = parse_mount(line)
                except ParseError as error:
                    gap = Unavailable(f"{path}: {error}")
                    continue
                if mount.id in found:
                    gap = Unavailable(f"{path}: the list of mounts leads back into itself")
                    break
                found[mount.id], parents[mount.id] = _row(pid, mount, source), mount.parent
            if options["tree"]:
                yield from (
                    Row(found[key].cells, depth, found[key].sources) for key, depth in as_tree(parents)
                )
            else:
                yield from found.values()
            if gap:
                yield Row((pid, *[gap] * (len(self.columns) - 1)))


def _row(pid: int, mount: Mount, source: Source) -> Row:
    return Row(
        (
            pid, mount.id, mount.parent, mount.device, mount.kind, mount.source, mount.root, mount.target,
            mount.propagation or None, mount.options, mount.super_options,
        ),
        sources=(source,),
    )  # fmt: skip


TOOL = Mounts()
