"""dir: what is in a directory of the guest, as `ls -l` shows it."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import attempt, in_guest, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import GROUP, USER, Accounts

_CELLS_BEFORE_NAME = 8


class Dir(Tool):
    name = "dir"
    help = "List a directory of the guest, as `ls -l` does"
    notes = (
        "USER and GROUP are names of the guest's own /etc/passwd and /etc/group, as far as its memory holds "
        "them: with --ns-of those of the container. Of a pseudo file system that the guest had not mounted "
        "at its usual place (tracefs, debugfs, mqueue ...) the first row, `.`, says so."
    )
    example = "/srv"
    options = (Option("path", str, "a directory, or a file", positional=True),)
    columns = (
        Column("MODE", "str", "type and permissions, as `ls -l` writes them"),
        Column("NLINK", "int", "number of hard links"),
        Column("UID", "int", "owner"),
        Column("GID", "int", "group"),
        USER,
        GROUP,
        Column("SIZE", "int", "bytes, as the kernel reports them: 0 for most of /proc"),
        Column("MTIME", "time", "last change; in /proc the time of the look-up, which is the capture time"),
        Column("NAME", "str", "file name"),
        Column("TARGET", "str", "target of a symbolic link"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        files, path = kernel.files, in_guest(options["path"])
        accounts = Accounts(files)
        if not stat.S_ISDIR(files.stat(path).mode):
            yield _row(files, path, path, accounts)
            return
        try:
            names, missing = files.listdir(path), None
        except IncompleteDirectory as error:
            names, missing = error.names, why(path, error)
        unmounted = files.unmounted(path)
        if unmounted is not None and not unmounted.missing:
            top = _row(files, path, ".", accounts)
            yield top._replace(cells=(*top.cells[:-1], f"{unmounted.kind}, not mounted here by the guest"))
        for name in sorted(names, key=_natural):
            yield _row(files, f"{path.rstrip('/')}/{name}", name, accounts)
        if missing is not None:
            yield Row((missing,) * len(self.columns))


def _row(files: Files, path: str, name: str, accounts: Accounts) -> Row:
    seen = attempt(path, lambda: files.stat(path))
    if isinstance(seen, Unavailable):
        return Row((*[seen] * _CELLS_BEFORE_NAME, name, seen))
    target = attempt(path, lambda: files.readlink(path)) if stat.S_ISLNK(seen.mode) else None
    mode = stat.filemode(seen.mode)
    sources = (Source(f"lstat {path}"), Source(f"readlink {path}"))
    user, group = accounts.user(seen.uid), accounts.group(seen.gid)
    cells = (mode, seen.nlink, seen.uid, seen.gid, user, group, seen.size, seen.mtime, name, target)
    return Row(cells, sources=sources)


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers first and by value: the processes of /proc, the descriptors of /proc/PID/fd."""
    return (0, int(name), "") if name.isdecimal() and name.isascii() else (1, 0, name)


TOOL = Dir()
