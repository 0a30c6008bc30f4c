"""The files of a batch: those named on the command line, those in directories, those in lists."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybridbridge_vol.errors import BatchError

LIST_MARK = "@"
_LONGEST_LIST = 64 << 20
"""Bytes of the longest list that is read."""


class Candidate(NamedTuple):
    """A file, by its absolute path. `named`: by the user or in a list, so that it is listed in the manifest
    whatever it is."""

    path: str
    named: bool


def discover(paths: Iterable[str], left_out: Sequence[Path] = ()) -> list[Candidate]:
    """The files that `paths` mean, each once, by path. A directory is searched to any depth, except for the
    directories `left_out`; links to directories in it are not followed. `@LIST` is a text file with one path
    a line, relative to the list's own directory; empty lines and lines that begin with `#` are ignored.

    BatchError if a list cannot be read.
    """
    found: dict[str, bool] = {}
    barred = {os.path.realpath(folder) for folder in left_out}
    for path in paths:
        for one in _list(path[1:]) if path.startswith(LIST_MARK) else [path]:
            absolute = os.path.abspath(one)
            if os.path.isdir(absolute):
                for file in _files(absolute, barred):
                    found.setdefault(file, False)
            else:
                found[absolute] = True
    return [Candidate(path, named) for path, named in sorted(found.items())]


def _list(path: str) -> list[str]:
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LONGEST_LIST + 1)
    except OSError as error:
        raise BatchError(f"{path}: the list cannot be read ({error.strerror})") from None
    if len(data) > _LONGEST_LIST or b"\0" in data:
        raise BatchError(f"{path}: not a list: it should be text with one path a line")
    folder = os.path.dirname(os.path.abspath(path))
    lines = (os.fsdecode(line.strip()) for line in data.splitlines())
    return [os.path.join(folder, line) for line in lines if line and not line.startswith("#")]


def _files(root: str, barred: set[str]) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if os.path.realpath(os.path.join(folder, name)) not in barred
        )
        if os.path.realpath(folder) in barred:
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISREG(os.stat(path).st_mode):
                    yield path
            except OSError:
                continue
