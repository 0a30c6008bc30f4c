"""Programs of a folder that has a C library of its own.

glibc's dynamic linker and its libc.so.6 are one build: they share private symbols. A program names the linker
by its place on the machine that it was made for, and a kernel takes the one that lies there: this machine's.
Where the folder's is another one, its programs are started by it, and its libraries are for them only.
"""

from __future__ import annotations

import filecmp
import os
import posixpath
from collections.abc import Iterable
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.native.links import without_links

_PLACE = "/lib64/ld-linux-x86-64.so.2"
"""By the psABI of x86-64."""
_NAMES_PROGRAM = b"--argv0"
"""An option of glibc 2.33 and later."""


class OwnLibraries(NamedTuple):
    """A folder's dynamic linker, a path of this machine's, and whether it can give a program a name."""

    linker: str
    gives_name: bool

    def command(self, path: str, arguments: list[str], folders: list[str]) -> list[str]:
        """The linker's own arguments: start the program `path`, with libraries of these folders."""
        name = ["--argv0", arguments[0]] if self.gives_name else []
        return [self.linker, *name, "--library-path", ":".join(folders), path, *arguments[1:]]


def own_libraries(tools: str | None) -> OwnLibraries | None:
    """The dynamic linker below `tools`, if it is another one than this machine's."""
    if tools is None:
        return None
    root = os.path.abspath(tools)
    try:
        linker = root + without_links(_PLACE, True, lambda path: _link(root + path))
        if not os.path.isfile(linker) or (
            os.path.exists(_PLACE) and filecmp.cmp(linker, _PLACE, shallow=False)
        ):
            return None
        with open(linker, "rb") as file:
            return OwnLibraries(linker, _NAMES_PROGRAM in file.read(_MAX_LINKER))
    except OSError as error:
        raise OptionError(f"{root}{_PLACE}: {error.strerror}") from None


_MAX_LINKER = 16 << 20
"""Bytes: 200 to 300 KiB are usual."""


def is_below(path: str, tools: str | None) -> bool:
    """Whether a program is one of the folder's."""
    return tools is not None and path.startswith(os.path.join(os.path.abspath(tools), ""))


def needs_linker(path: str) -> bool:
    """Whether a program names the dynamic linker: static ones and scripts do not."""
    try:
        with open(path, "rb") as file:
            return _PLACE.encode() + b"\0" in file.read(_MAX_HEADERS)
    except OSError:
        return False


_MAX_HEADERS = 4096
"""Bytes: the name follows the program headers."""


def program_below(tools: str, folders: Iterable[str], name: str) -> str | None:
    """The first program of a name in these folders below `tools`, whose links are followed there. It has the
    name of the last link: programs with many names go by it."""
    root = os.path.abspath(tools)
    for folder in folders:
        path = posixpath.join("/", folder, name)
        if not os.path.lexists(root + path):
            continue
        try:
            real = root + without_links(path, True, lambda at: _link(root + at))
        except OSError:
            return None
        while os.path.realpath(root + path) != os.path.realpath(real):
            target = _link(root + path)
            if target is None:  # a folder above is such a link
                return real
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        return root + path if os.access(real, os.X_OK) and os.path.isfile(real) else None
    return None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
