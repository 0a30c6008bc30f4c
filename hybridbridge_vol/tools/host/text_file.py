"""A text file of the guest's, line by line, as far as memory holds it.

What is lacking is always said: a file that is not there is None, one of which memory lacks anything has a
`lack`. A line counts if all of its bytes are there. Its number is known up to the first gap.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import IncompleteDirectory, PieceKind
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

MAX_SIZE = 8 << 20
"""Bytes that are read of one file: configuration and tables are far smaller."""
MAX_LINES = 1 << 17
"""Lines of one file: two bytes a line would still be less than this of `MAX_SIZE` in files that people
write."""
MAX_LINE = 1 << 16
"""Characters of one line; what is behind is left out."""
MAX_NAMES = 1 << 16
"""Names of one directory that are looked at."""
ABSENT = (errno.ENOENT, errno.ENOTDIR)
"""The path leads to nothing, and the kernel knows that: a part that is not in memory gives other errors."""


class Line(NamedTuple):
    """A line without its newline: `[start, end)` in the file. `number` counts from 1; None behind a gap."""

    number: int | None
    text: str
    start: int = 0
    end: int = 0


class TextFile(NamedTuple):
    """What there is of a file. `attributes` are those of what the path leads to; None if they cannot be
    had."""

    path: str
    attributes: FileAttributes | None
    lines: tuple[Line, ...]
    lack: Unavailable | None = None
    """Why this is not all of it."""


class Folder(NamedTuple):
    """The names in a directory, sorted, and why these are not all."""

    path: str
    names: tuple[str, ...]
    lack: Unavailable | None = None

    def paths(self) -> Iterator[str]:
        """The entries' paths."""
        return (f"{self.path.rstrip('/')}/{name}" for name in self.names)


def is_absent(error: BaseException) -> bool:
    """Whether an error says that there is no such file."""
    return isinstance(error, OSError) and error.errno in ABSENT


def read_text(files: Files, path: str) -> TextFile | None:
    """A file by lines; None if there is none of that name."""
    try:
        attributes = files.attributes(path, follow=True)
    except UNREADABLE as error:
        return None if is_absent(error) else TextFile(path, None, (), why(path, error))
    if not stat.S_ISREG(attributes.mode):
        reason = "a directory" if stat.S_ISDIR(attributes.mode) else "not a regular file"
        return TextFile(path, attributes, (), Unavailable(f"{path}: {reason}"))
    try:
        runs, missing = read_runs(files, path, attributes.size)
    except UNREADABLE as error:
        return TextFile(path, attributes, (), why(path, error))
    lines = tuple(islice(_lines(runs, attributes.size), MAX_LINES + 1))
    lack = _lack(path, attributes.size, bool(runs), missing, len(lines) > MAX_LINES)
    return TextFile(path, attributes, lines[:MAX_LINES], lack)


class Run(NamedTuple):
    """Bytes of a file that stand next to each other, from `offset` on."""

    offset: int
    data: bytes


def read_runs(files: Files, path: str, size: int, most: int = MAX_SIZE) -> tuple[list[Run], int]:
    """The content of a regular file of `size` bytes, `most` of them: the runs that are there, in order, with
    holes as zeros; and how many bytes are missing. OSError, CallRolledBack."""
    runs: list[Run] = []
    parts: list[bytes] = []
    begun = missing = 0
    for piece in files.window(path, 0, min(size, most)):
        if piece.kind is not PieceKind.MISSING:
            begun = begun if parts else piece.offset
            parts.append(piece.data or bytes(piece.size))
            continue
        missing += piece.size
        if parts:
            runs.append(Run(begun, b"".join(parts)))
            parts = []
    if parts:
        runs.append(Run(begun, b"".join(parts)))
    return runs, missing


def _lines(runs: list[Run], size: int) -> Iterator[Line]:
    """Lines of which every byte is there: behind a gap the first one has lost its beginning, before one the
    last its end."""
    for run in runs:
        start = run.offset
        lines = run.data.split(b"\n")
        number = None if start else 1
        if start:
            start += len(lines.pop(0)) + 1
        if lines and (start + sum(map(len, lines)) + len(lines) - 1 < size or not lines[-1]):
            lines.pop()
        for line in lines:
            yield Line(number, text(line[:MAX_LINE]), start, start + len(line))
            start += len(line) + 1
            number = None if number is None else number + 1


def _lack(path: str, size: int, any_read: bool, missing: int, cut: bool) -> Unavailable | None:
    if missing and not any_read:
        return Unavailable(f"{path}: not in memory")
    if missing:
        return Unavailable(f"{path}: {missing:,} of its {size:,} bytes are not in memory")
    if size > MAX_SIZE:
        return Unavailable(f"{path}: {size:,} bytes, of which {MAX_SIZE:,} are read")
    return Unavailable(f"{path}: more than {MAX_LINES:,} lines") if cut else None


def list_folder(files: Files, path: str) -> Folder | None:
    """A directory's names; None if there is none of that name."""
    lack = None
    try:
        names = files.listdir(path)
    except IncompleteDirectory as error:
        names, lack = error.names, why(path, error)
    except UNREADABLE as error:
        return None if is_absent(error) else Folder(path, (), why(path, error))
    if len(names) > MAX_NAMES:
        lack = Unavailable(f"{path}: {len(names):,} names, of which {MAX_NAMES:,} are looked at")
    return Folder(path, tuple(sorted(names)[:MAX_NAMES]), lack)
