"""Reading the guest in such a way that what cannot be read becomes a cell that says why."""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from posixpath import normpath
from typing import TypeVar

from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.guest.values import EndlessFile, PartialFile
from hybridbridge_vol.toolkit.cells import Unavailable

T = TypeVar("T")

UNREADABLE = (OSError, CallRolledBack, ParseError)
"""What reading one file of the guest may raise; a tool makes an `Unavailable` of it and goes on."""


def why(source: str, error: BaseException) -> Unavailable:
    """The cell for what could not be read from `source`: a path, or a call."""
    if isinstance(error, CallRolledBack):
        return Unavailable(f"{source}: {error.reason}")
    if isinstance(error, OSError) and error.strerror:
        return Unavailable(f"{source}: {error.strerror}")
    return Unavailable(f"{source}: {error}")


def attempt(source: str, ask: Callable[[], T]) -> T | Unavailable:
    """The answer of `ask`, which asks `source`; or the cell that says why there is none."""
    try:
        return ask()
    except UNREADABLE as error:
        return why(source, error)


def parsed(files: Files, path: str, parse: Callable[[bytes], T]) -> T | Unavailable:
    """What a file says; or the cell that says why it cannot be read or is not of its form."""
    return attempt(path, lambda: parse(files.read(path)))


def read_lines(files: Files, path: str, empty: int | None = None) -> tuple[bytes, Unavailable | None]:
    """A file's whole lines, and the read error if these are not all: it cannot be read, does not end, or
    lacks records that the kernel could not write. `empty` is an errno that only means that there is nothing
    in it."""
    try:
        return files.read(path), None
    except PartialFile as error:
        return error.partial[: error.partial.rfind(b"\n") + 1], why(path, error)
    except UNREADABLE as error:
        if empty is not None and isinstance(error, OSError) and error.errno == empty:
            return b"", None
        return b"", why(path, error)


def read_answer(source: str, ask: Callable[[], bytes]) -> tuple[bytes, Unavailable | None]:
    """The messages that the kernel answers to what `ask` asks `source`, and why these are not all: it does
    not answer, or does not end."""
    try:
        return ask(), None
    except EndlessFile as error:
        return error.partial, why(source, error)
    except UNREADABLE as error:
        return b"", why(source, error)


def in_guest(path: str) -> str:
    """The path as an absolute one of the guest's. Those of /proc and /sys lose their `..`; others keep them,
    for the guest's kernel to follow. OSError if it cannot be a path."""
    if not path or "\0" in path:
        raise OSError(EINVAL, "not a path", path)
    absolute = "/" + path.lstrip("/")
    clean = normpath(absolute)
    return clean if clean in ("/proc", "/sys") or clean.startswith(("/proc/", "/sys/")) else absolute
