"""Bytes of the kernel's structures in which fields are looked for by their values.

Where locks are checked (CONFIG_DEBUG_LOCK_ALLOC: lockdep), a spinlock takes 72 bytes instead of 4 and a
semaphore 168 instead of 40, and a structure with locks in it up to twice as much. What is not in the usual
size is looked for in the larger one; not at once, because behind a smaller structure its neighbour lies,
which has the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class StructSizes(NamedTuple):
    """Of struct file, inode, super_block, dentry, sock, file_lock_context."""

    file: int
    inode: int
    super_block: int
    dentry: int
    sock: int
    lock_context: int


USUAL = StructSizes(file=256, inode=1024, super_block=2048, dentry=192, sock=768, lock_context=64)
WITH_CHECKED_LOCKS = StructSizes(
    file=512, inode=2048, super_block=4096, dentry=384, sock=1536, lock_context=128
)


def in_usual_or_larger(find: Callable[[StructSizes], T], *missing: type[Exception]) -> T:
    """What `find` finds in structures of the usual sizes, or of the larger ones where it raises one of
    `missing`."""
    try:
        return find(USUAL)
    except missing:
        return find(WITH_CHECKED_LOCKS)
