"""The guest's tree of files, entry by entry."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

MAX_DEPTH = 256
"""Directories below each other: more do not fit into PATH_MAX with names of 15 letters."""
MAX_ENTRIES = 10_000_000
"""Entries of one walk: a tree of more is cyclic, or is listed in part."""
MAX_LISTINGS = 16
"""How often one directory is listed: below each place where it is mounted (mount --bind). Directories of a
forged tree that lead into each other cost no more than this."""
NOT_WALKED = ("/proc", "/sys")
"""What the kernel makes up: every file there is listed by `dir`, and has no content of its own."""


class Entry(NamedTuple):
    """A file, and under which path it can be asked for. `state` says what is special about it."""

    path: str
    attributes: FileAttributes | None
    error: Unavailable | None = None
    state: str = ""
    shown_as: str = ""
    """Its path, where `path` is a link of /proc to it, or the name of its inode."""
    kind: str = ""
    """The type of its file system, where no path leads to it."""
    is_whole: bool = False
    """A regular file of which memory holds every byte; False may only mean that it was not asked."""

    @property
    def is_directory(self) -> bool:
        return self.attributes is not None and stat.S_ISDIR(self.attributes.mode)

    @property
    def is_regular(self) -> bool:
        return self.attributes is not None and stat.S_ISREG(self.attributes.mode)


class _Walk:
    """One walk: what was met already, and how much is left of the bounds."""

    def __init__(self, files: Files, contents: bool) -> None:
        self._files = files
        self._contents = contents
        self._listed: dict[tuple[int, int], list[str]] = {}
        self._above: dict[tuple[int, int], str] = {}
        """The directories that lead to where the walk is."""
        self._left = MAX_ENTRIES

    def below(self, top: str) -> Iterator[Entry]:
        entry = self._entry(top)
        yield entry
        if entry.is_directory:
            yield from self._inside(entry, 0)

    def _entry(self, path: str) -> Entry:
        try:
            return Entry(path, self._files.attributes(path))
        except UNREADABLE as error:
            return Entry(path, None, why(path, error))

    def _inside(self, directory: Entry, depth: int) -> Iterator[Entry]:
        attributes, path = directory.attributes, directory.path
        assert attributes is not None
        identity = attributes.dev, attributes.ino
        first = self._above.get(identity)
        listed = self._listed.setdefault(identity, [])
        if first is None and len(listed) == MAX_LISTINGS:
            first = listed[0]
        if first is not None:
            reason = f"the directory is the one at {first}, and is not listed again"
            yield Entry(path, None, Unavailable(f"{path}: {reason}"))
            return
        if depth == MAX_DEPTH:
            yield Entry(path, None, Unavailable(f"{path}: {MAX_DEPTH} directories below each other"))
            return
        listed.append(path)
        self._above[identity] = path
        try:
            yield from self._entries(path, depth)
        finally:
            del self._above[identity]

    def _entries(self, path: str, depth: int) -> Iterator[Entry]:
        try:
            names, incomplete = self._files.listdir(path), None
        except IncompleteDirectory as error:
            names, incomplete = error.names, why(path, error)
        except UNREADABLE as error:
            names, incomplete = [], why(path, error)
        known = self._files.attributes_in(path, names)
        whole = self._files.whole_in(path, _sizes(known)) if self._contents else set()
        for name in names:
            if not self._left:
                yield Entry(path, None, Unavailable(f"{path}: more than {MAX_ENTRIES:,} entries"))
                return
            self._left -= 1
            below = f"{path.rstrip('/')}/{name}"
            seen = known.get(name)
            entry = self._entry(below) if seen is None else Entry(below, seen, is_whole=name in whole)
            if entry.path in NOT_WALKED:
                continue
            yield entry
            if entry.is_directory:
                yield from self._inside(entry, depth + 1)
        if incomplete is not None:
            yield Entry(path, None, incomplete)


def _sizes(known: dict[str, FileAttributes]) -> dict[str, int]:
    return {name: seen.size for name, seen in known.items() if stat.S_ISREG(seen.mode)}


def walk(files: Files, top: str = "/", contents: bool = False) -> Iterator[Entry]:
    """Every entry below a directory, and itself first: parents before what they hold. What cannot be read is
    an entry with an error. With `contents` it is asked which files memory holds as a whole."""
    return _Walk(files, contents).below(top)
