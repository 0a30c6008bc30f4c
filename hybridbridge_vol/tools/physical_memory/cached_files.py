"""The files of the page cache with the physical pages that hold them: those of the kernel's list of inodes,
read by the kernel's own read, which names the places."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.guest.file_content import PhysicalRange
from hybridbridge_vol.guest.inode_paths import path_of
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.objects.inode_cache import CachedInode

_AT_ONCE = 16


class CachedFile(NamedTuple):
    """A file, and where in physical memory its content lies, as far as memory holds it."""

    path: str
    ranges: list[PhysicalRange]


def cached_files(kernel: GuestKernel, jobs: int | None = None) -> Iterator[CachedFile | Unavailable]:
    """Every regular file that memory holds something of, by at most `jobs` processors; and what could not be
    looked at. OSError if the list of inodes cannot be found."""
    inodes, broken = kernel.inodes.cached()
    for item in broken:
        yield Unavailable(f"the kernel's list of inodes: {item.reason}")
    regular = [inode for inode in inodes if stat.S_ISREG(inode.mode)]
    parts = [regular[start : start + _AT_ONCE] for start in range(0, len(regular), _AT_ONCE)]

    def answer(part: list[CachedInode]) -> list[CachedFile | Unavailable]:
        return [found for inode in part if (found := _of_inode(kernel, inode))]

    for number, found in enumerate(kernel.workers.map(answer, parts, jobs), 1):
        kernel.progress(number / len(parts) * 0.99, "searching the pages of files")
        yield from found


def _of_inode(kernel: GuestKernel, inode: CachedInode) -> CachedFile | Unavailable | None:
    path = path_of(inode.vaddr)
    try:
        ranges = [item for piece in kernel.files.pieces(path) for item in piece.ranges]
    except UNREADABLE as error:
        return why(path, error)
    if not ranges:
        return None
    try:
        name = kernel.inodes.name(inode) if inode.dentry_vaddr else ""
    except UNREADABLE:
        name = ""
    return CachedFile(name or path, ranges)
