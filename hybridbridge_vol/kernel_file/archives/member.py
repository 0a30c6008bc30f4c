"""One file of a package, whatever archive it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_TEXT_SIZE = 1 << 20
"""Bytes that a name, a link or a header's text may have; PATH_MAX is 4096."""

Wanted = Callable[[str], bool]
"""Whether the file of a name is to be given."""


@dataclass(frozen=True)
class Member:
    """One file of a package: path from the root (no leading slash), permission bits, link target, contents.

    A hard link is given as a symbolic link to the absolute path.
    """

    name: str
    mode: int
    link: str
    data: bytes


def from_root(name: str) -> str:
    """A member's path as `Member.name` has it: archives write `./boot`, `/boot` and `boot`."""
    return name.removeprefix("./").lstrip("/")
