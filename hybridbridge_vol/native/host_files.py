"""Which files of the examiner's machine the program may have: its own code, libraries and data, and nothing
else.

The program sees them below a prefix, a name that no image has (a link to the host's root in a new folder);
the dynamic linker sees shared libraries at their own places. Everything else by a name is the image's.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import tempfile
from collections.abc import Iterable
from functools import lru_cache, partial

from hybridbridge_vol.native.links import without_links

_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_DATA_FOLDERS = (
    "/usr/share/terminfo", "/lib/terminfo", "/etc/terminfo", "/usr/share/locale", "/usr/lib/locale",
    "/usr/share/zoneinfo", "/usr/share/perl", "/usr/share/perl5", "/etc/perl", "/usr/local/share/perl",
    "/usr/share/misc", "/usr/share/file", "/usr/share/awk",
)  # fmt: skip
_FILES = ("/etc/inputrc", "/etc/ld.so.cache")
_KEPT_PATHS = 4096
_LIBRARY = re.compile(r"[^/]*\.so(\.[^/]*)?|ld\.so\.cache")


class HostFiles:
    """The allow-list. `tools` are folders of programs, `more` further folders that the program may read."""

    def __init__(self, tools: Iterable[str], more: Iterable[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hb-exec-")
        self.prefix = os.path.join(os.path.realpath(self._folder.name), "tools")
        os.symlink("/", self.prefix)
        named = [*_LIBRARY_FOLDERS, *_DATA_FOLDERS, *_FILES, *tools, *more]
        self.tools = tuple(dict.fromkeys(os.path.realpath(path) for path in tools))
        """Folders and files that may be executed."""
        self._allowed = tuple(dict.fromkeys(os.path.realpath(path) for path in named))
        self._above = {parent for path in named for parent in _parents(path)}
        self._above |= {parent for path in self._allowed for parent in _parents(path)}
        self._without_links = lru_cache(_KEPT_PATHS)(partial(without_links, link=_link))

    def executable(self) -> list[str]:
        """What the program may execute: tools, and the dynamic linker that starts them."""
        return [*self.tools, *(path for path in _LIBRARY_FOLDERS if os.path.isdir(path))]

    def below_prefix(self, path: str) -> str | None:
        """The host's path that a path of the program's means; None if it does not begin with the prefix."""
        if path != self.prefix and not path.startswith(self.prefix + "/"):
            return None
        return posixpath.normpath(path[len(self.prefix) :] or "/")

    def resolved(self, path: str, follow: bool = True) -> str:
        """The host's path without links, if the program may have it. FileNotFoundError if not."""
        found = self._without_links(path, follow)
        if not self._is_allowed(found) and found not in self._above:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def is_readable(self, resolved: str) -> bool:
        """Whether the program may have the content, too, not only know that it is there."""
        return self._is_allowed(resolved)

    def is_folder(self, resolved: str) -> bool:
        """Whether it is a directory."""
        return os.path.isdir(resolved)

    def is_tool(self, resolved: str) -> bool:
        """Whether it may be executed."""
        return any(resolved == tool or resolved.startswith(tool + "/") for tool in self.tools)

    def _is_allowed(self, path: str) -> bool:
        return any(path == other or path.startswith(other + "/") for other in self._allowed)

    def open(self, resolved: str) -> int:
        """A descriptor for reading what `resolved` names. OSError."""
        if not self._is_allowed(resolved):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return os.open(resolved, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)

    def close(self) -> None:
        """Remove the prefix."""
        self._folder.cleanup()


def is_library_name(path: str) -> bool:
    """Whether a path may be a shared library's, or the list of them."""
    return _LIBRARY.fullmatch(posixpath.basename(path)) is not None


def _parents(path: str) -> list[str]:
    found = ["/"]
    for part in path.strip("/").split("/")[:-1]:
        found.append(posixpath.join(found[-1], part))
    return found


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
