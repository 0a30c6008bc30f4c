"""What a guest with file systems on disks said of their files (samples/guest/inventory.c, disks.sh)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from samples.make import Spec
from samples.plan import HASHES, INVENTORY
from samples.truth import Truth

DISKS = {
    "5.10 disks": Spec("5.10-cloud", seed=32, ram=512 << 20, light=True, disks=True),
    "6.1 disks": Spec("6.1-cloud", seed=31, ram=512 << 20, light=True, disks=True),
    "6.12 disks": Spec("6.12-cloud", seed=33, ram=512 << 20, light=True, disks=True),
    "7.x disks": Spec("7-cloud", seed=34, ram=512 << 20, light=True, disks=True),
}
TOP = "/mnt"
_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\"}
_SQUASHED = "./"
"""With this begin the paths of files that a read-only file system was made of (disks.sh)."""


class Listed(NamedTuple):
    """One entry as the guest had it. Times: of access, change, modification and birth, in seconds; None where
    the file system keeps none. `pages`: for each page of a regular file whether it was in the page cache."""

    path: str
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    blocks: int
    ino: int
    times: tuple[float | None, ...]
    target: str
    xattrs: dict[str, bytes]
    pages: list[bool]


def _plain(digits: str) -> bytes:
    return b"" if digits == "-" else bytes.fromhex(digits)


def _text(digits: str) -> str:
    return _plain(digits).decode("utf-8", "surrogateescape")


def listed(truth: Truth) -> Iterator[Listed]:
    """Every entry below `TOP`."""
    for line in truth.command(INVENTORY).splitlines():
        path, mode, *words = line.split(" ")
        uid, gid, nlink, size, blocks, ino = map(int, words[:6])
        times = tuple(None if word == "-" else float(word) for word in words[6:10])
        target, xattrs, pages = words[10:]
        pairs = [] if xattrs == "-" else [pair.split("=") for pair in xattrs.split(",")]
        yield Listed(
            _text(path), int(mode, 8), uid, gid, nlink, size, blocks, ino, times, _text(target),
            {_text(name): _plain(value) for name, value in pairs},
            [digit == "1" for digit in pages if digit != "-"],
        )  # fmt: skip


def hashes(truth: Truth) -> dict[str, str]:
    """SHA-256 by path of the files as they were written: the last one written counts."""
    found = {}
    for line in filter(None, truth.command(HASHES).split("\n")):
        escaped, digest, path = re.fullmatch(r"(\\?)([0-9a-f]{64})  (.*)", line).groups()  # type: ignore[union-attr]
        if escaped:  # sha256sum(1): a backslash before a line with a name that needs it
            path = re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], path)
        if path.startswith(_SQUASHED):
            path = f"{TOP}/squashfs/{path.removeprefix(_SQUASHED)}"
        found[path] = digest
    return found
