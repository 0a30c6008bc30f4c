"""mounts: what is mounted where, as a process sees it."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import Unmounted
from hybridbridge_vol.procfs.mounts import Mount, parse_mount
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import read_lines
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.toolkit.tree import as_tree


class Mounts(Tool):
    name = "mounts"
    help = "Mounted file systems, as `findmnt` shows them"
    notes = (
        "Reads /proc/PID/mountinfo: the mounts in the mount namespace of a process, below its root. The "
        "mounts of a container are those of a process in it. Most pseudo file systems (tracefs, debugfs, "
        "mqueue ...) exist also where nobody has mounted them: `--unmounted` says which can be read where."
    )
    example = "--pid 1 --tree"
    options = (
        Option("pid", int, "as these processes see it (default: process 1)", many=True),
        Option("tree", bool, "mounts below the mount they are on"),
        Option(
            "unmounted",
            bool,
            "instead, pseudo file systems that process 1 has not mounted at their usual place",
        ),
    )
    columns = (
        Column("PID", "int", "the process that sees the mount"),
        Column("ID", "int", "number of the mount"),
        Column("PARENT", "int", "number of the mount it is on"),
        Column("DEVICE", "str", "major:minor of its files"),
        Column("TYPE", "str", "type of the file system"),
        Column("SOURCE", "str", "device or name, as it was given to mount"),
        Column("ROOT", "str", "the directory of the file system that is mounted; not / for bind mounts"),
        Column("TARGET", "str", "where it is mounted"),
        Column("PROPAGATION", "str", "shared:N, master:N, ...; nothing for a private mount"),
        Column("OPTIONS", "str", "options of the mount"),
        Column("SUPER", "str", "options of the file system"),
    )
    tree_column = "TARGET"

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        if options["unmounted"]:
            yield from map(_unmounted, kernel.files.all_unmounted())
            return
        for pid in dict.fromkeys(options["pid"] or (1,)):
            found, read_error = _mounts(kernel.files, f"/proc/{pid}/mountinfo")
            rows = {mount.id: _row(pid, mount, source) for mount, source in found}
            if options["tree"]:
                parents = {mount.id: mount.parent for mount, _source in found}
                yield from (rows[key]._replace(depth=depth) for key, depth in as_tree(parents))
            else:
                yield from rows.values()
            if read_error:
                yield Row((pid, *[read_error] * (len(self.columns) - 1)))


def _mounts(files: Files, path: str) -> tuple[list[tuple[Mount, Source]], Unavailable | None]:
    """The mounts of a mountinfo, and why these may not be all."""
    data, read_error = read_lines(files, path)
    found: list[tuple[Mount, Source]] = []
    seen: set[int] = set()
    for line, source in lines(path, data):
        try:
            mount = parse_mount(line)
        except ParseError as error:
            read_error = Unavailable(f"{path}: {error}")
            continue
        if mount.id in seen:
            return found, Unavailable(f"{path}: the list of mounts is cyclic")
        seen.add(mount.id)
        found.append((mount, source))
    return found, read_error


def _unmounted(found: Unmounted) -> Row:
    missing = Unavailable(found.missing) if found.missing else None
    device = found.device or missing
    return Row((
        None, None, None, device, found.kind, None, None, found.place, None, "not mounted", missing,
    ))  # fmt: skip


def _row(pid: int, mount: Mount, source: Source) -> Row:
    cells = (
        pid, mount.id, mount.parent, mount.device, mount.kind, mount.source, mount.root, mount.target,
        mount.propagation or None, mount.options, mount.super_options,
    )  # fmt: skip
    return Row(cells, sources=(source,))


TOOL = Mounts()
