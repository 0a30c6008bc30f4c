"""Names for inodes that no path leads to.

`/proc/inodes/ADDRESS` (of the `struct inode`, 16 hexadecimal digits) is the name of such a file here. The
guest's /proc has no such folder, and no name of the guest's own can be one.
"""

from __future__ import annotations

import re

_PATH = re.compile(r"/proc/inodes/([0-9a-f]{16})")


def path_of(vaddr: int) -> str:
    """The name here of an inode."""
    return f"/proc/inodes/{vaddr:016x}"


def vaddr_of(path: str) -> int | None:
    """The inode that such a name is of; None for every other path."""
    found = _PATH.fullmatch(path)
    return int(found[1], 16) if found else None
