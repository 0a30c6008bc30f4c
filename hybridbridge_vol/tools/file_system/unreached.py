"""Every file that the guest's memory knows of: those that paths lead to, and those that only processes or the
kernel's list of inodes lead to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybridbridge_vol.guest.inode_paths import path_of
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.file_system.deleted import DELETED, deleted_files
from hybridbridge_vol.tools.file_system.walk import Entry, walk

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.objects.inode_cache import CachedInode

_INODES = "the kernel's list of inodes"
WITHOUT_NAME = "only in the inode cache"
REMOVED = "deleted"
NOT_REACHED = "not reached by its path"
"""What is special about an inode that the walk has not met: there is no dentry of it; its name was removed,
and no process has it open or mapped; or it is covered by a mount, in another mount namespace, or in a
directory that is in memory in part."""


def every_file(
    kernel: GuestKernel, top: str = "/", deleted_only: bool = False, contents: bool = False
) -> Iterator[Entry]:
    """Entries below a directory; files without a name that processes have open or mapped; and what only the
    kernel's list of inodes shows, on any file system. Each once. With `deleted_only` no directory is
    walked; for `contents` see `walk`."""
    met: set[tuple[int, int]] = set()
    for entry in () if deleted_only else walk(kernel.files, top, contents):
        if entry.attributes is not None:
            met.add((entry.attributes.dev, entry.attributes.ino))
        yield entry
    for entry in deleted_files(kernel):
        if entry.attributes is not None:
            met.add((entry.attributes.dev, entry.attributes.ino))
        yield entry
    try:
        inodes, broken = kernel.inodes.cached()
    except UNREADABLE as error:
        yield Entry("/", None, why(_INODES, error))
        return
    for item in broken:
        kind = item.super.kind if item.super else "superblocks"
        yield Entry("/", None, Unavailable(f"{_INODES} ({kind}): {item.reason}"))
    for inode in inodes:
        # the numbers are those of stat(2) in most file systems; in others they are none that was met
        if (os.makedev(*inode.super.device), inode.ino) not in met:
            yield from _unmet(kernel, inode, met, deleted_only)


def _unmet(
    kernel: GuestKernel, inode: CachedInode, met: set[tuple[int, int]], deleted_only: bool
) -> Iterator[Entry]:
    path, kind = path_of(inode.vaddr), inode.super.kind
    try:
        name = kernel.inodes.name(inode) if inode.dentry_vaddr else ""
    except UNREADABLE as error:
        yield Entry(path, None, why(path, error), NOT_REACHED, kind=kind)
        return
    state = WITHOUT_NAME if not name else REMOVED if name.endswith(DELETED) else NOT_REACHED
    if deleted_only and state == NOT_REACHED:
        return
    shown = name.removesuffix(DELETED)
    try:
        attributes = kernel.files.attributes(path)
    except UNREADABLE as error:
        yield Entry(path, None, why(path, error), state, shown, kind)
        return
    identity = attributes.dev, attributes.ino
    if identity in met or (deleted_only and state == WITHOUT_NAME and attributes.nlink):
        return
    met.add(identity)
    yield Entry(path, attributes, None, state, shown, kind)
