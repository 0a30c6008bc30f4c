"""files: every file that the guest's memory knows of, with how much of it is there."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Iterator
from typing import ClassVar, NamedTuple, Self

from hybridbridge_vol.allowance import LONG_ANSWER_MEMORY, LONG_ANSWER_SECONDS
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.mounts import Mount
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.given_time import given_time
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import GROUP, USER, Accounts
from hybridbridge_vol.tools.file_system.mounts import Mounts
from hybridbridge_vol.tools.file_system.unreached import every_file
from hybridbridge_vol.tools.file_system.walk import Entry

_CELLS_WITHOUT_NAME = 15
"""Columns before STATE, PATH and TARGET."""
_STACKED = ("overlay", "ecryptfs")
"""File systems whose files have their pages in those of another one."""


class Files(Tool):
    name = "files"
    help = "Files that the guest's memory knows of, and how much of each it holds"
    notes = (
        "The guest's kernel lists its own file systems from its dcache and page cache: tmpfs is there as a "
        "whole, of a disk what was in use. A directory that is in memory in part says so in a row of its "
        "own. CACHED is what `cat` and `hb recover` can give of SIZE. Files without a name that processes "
        "have open or mapped follow, and last what only the kernel's list of inodes shows on any file "
        "system: removed files, files without a directory entry in memory, those below a mount or in another "
        "mount namespace. STATE says which; TARGET, or PATH where there is no name, is a path by which they "
        "can be read. Files that the kernel makes up (/proc, /sys and the like) are left out."
    )
    example = "--path '/srv/*'"
    options = (
        Option("path", str, "only paths that match this pattern (*, ?, [])"),
        Option("mount", str, "only the file system that is mounted there"),
        Option("deleted", bool, "only files without a name"),
        Option("executable", bool, "only regular files that may be executed"),
        Option(
            "changed-after",
            str,
            "only files changed (MTIME or CTIME) since then: 2026-11-23 or 2026-11-23T05:30Z",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("MODE", "str", "type and permissions, as `ls -l` writes them"),
        Column("NLINK", "int", "hard links"),
        Column("UID", "int", "owner"),
        Column("GID", "int", "group"),
        USER,
        GROUP,
        Column("SIZE", "int", "bytes"),
        Column("CACHED", "int", "bytes of a regular file that are in memory, in whole pages"),
        Column("MTIME", "time", "content changed"),
        Column("ATIME", "time", "last read"),
        Column("CTIME", "time", "attributes changed"),
        Column("BTIME", "time", "made"),
        Column("INODE", "int", "number in its file system"),
        Column("FS", "str", "type of its file system"),
        Column("MOUNT", "str", "where its file system is mounted"),
        Column(
            "STATE",
            "str",
            "deleted, in use by PID; deleted; only in the inode cache; not reached by its path",
        ),
        Column("PATH", "str", "absolute path"),
        Column("TARGET", "str", "where a symbolic link points; for a deleted file: where it can be read"),
    )

    moments = (
        Moment("MTIME", "modified", "content changed"),
        Moment("ATIME", "accessed", "read"),
        Moment("CTIME", "changed", "attributes changed"),
        Moment("BTIME", "created", "made"),
    )
    moment_text = ("PATH",)

    seconds, memory = LONG_ANSWER_SECONDS, LONG_ANSWER_MEMORY

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        mounts, accounts = Mounts.of(kernel.files), Accounts(kernel.files)
        selection = _Selection.of(mounts, options)
        for entry in every_file(kernel, options["mount"] or "/", options["deleted"], contents=True):
            shown = entry.shown_as or entry.path
            if not selection.takes_path(shown):
                continue
            if entry.attributes is None:
                yield Row((*[entry.error] * _CELLS_WITHOUT_NAME, entry.state or None, shown, None))
                continue
            mount = mounts.holding(entry)
            if selection.takes(entry, entry.attributes, mount):
                yield _row(kernel, entry, mount, accounts)
        if mounts.lack:
            yield Row((mounts.lack,) * len(self.columns))


class _Selection(NamedTuple):
    """What the options ask for: a pattern for paths, a mount, the earliest change, executable files."""

    pattern: str | None
    mount: Mount | None
    after: float | None
    executable: bool

    @classmethod
    def of(cls, mounts: Mounts, options: Options) -> Self:
        """OptionError for a time that is not one, and for a path where nothing is mounted."""
        mount = None
        if options["mount"]:
            mount = mounts.at(options["mount"])
            if mount is None:
                raise OptionError(
                    f"--mount {options['mount']}: nothing is mounted there; `mounts` lists what is"
                )
        return cls(
            options["path"],
            mount,
            given_time("changed-after", options["changed-after"]),
            options["executable"],
        )

    def takes_path(self, path: str) -> bool:
        return self.pattern is None or fnmatch.fnmatchcase(path, self.pattern)

    def takes(self, entry: Entry, attributes: FileAttributes, mount: Mount | None) -> bool:
        if self.mount is not None and mount != self.mount:
            return False
        if self.after is not None and max(attributes.mtime, attributes.ctime) < self.after:
            return False
        return not self.executable or (entry.is_regular and bool(attributes.mode & 0o111))


def _row(kernel: GuestKernel, entry: Entry, mount: Mount | None, accounts: Accounts) -> Row:
    attributes = entry.attributes
    assert attributes is not None
    kind = mount.kind if mount else entry.kind or None
    target: Cell = entry.path if entry.shown_as else None
    if stat.S_ISLNK(attributes.mode):
        try:
            target = kernel.files.readlink(entry.path)
        except UNREADABLE as error:
            target = why(entry.path, error)
    return Row(
        (
            stat.filemode(attributes.mode),
            attributes.nlink,
            attributes.uid,
            attributes.gid,
            accounts.user(attributes.uid),
            accounts.group(attributes.gid),
            attributes.size,
            _cached(kernel, entry, kind) if entry.is_regular else None,
            attributes.mtime,
            attributes.atime,
            attributes.ctime,
            attributes.btime,
            attributes.ino,
            kind,
            mount.target if mount else None,
            entry.state or None,
            entry.shown_as or entry.path,
            target,
        ),
        sources=(Source(f"lstat {entry.path}"), Source(f"readlink {entry.path}")),
    )


def _cached(kernel: GuestKernel, entry: Entry, kind: str | None) -> Cell:
    """Bytes of a file that are in memory."""
    size = entry.attributes.size if entry.attributes else None
    if entry.is_whole:
        return size
    try:
        return kernel.files.cached_bytes(entry.path, size, kind in _STACKED)
    except UNREADABLE as error:
        return why(entry.path, error)


TOOL = Files()
