"""Where the kernel's structures for file systems have the fields that we read or write ourselves.

`struct super_block`, `vfsmount` and `path` (include/linux/fs.h, mount.h, path.h) are among those whose order
RANDSTRUCT draws when a kernel is built. So the fields are found by value in the booted kernel, at the root
directory of its kernel threads (`init_fs`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from hybridbridge_vol.kernel_file.struct_sizes import StructSizes, in_usual_or_larger
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.machine.words import read_mapped, read_words, ring_of
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.trust.stored_kernel import StoredKernel

_MOUNT_SIZE, _FS_SIZE = 32, 96
"""Bytes of a vfsmount and a fs_struct in which pointers are looked for."""
_MOST_SUPERS = 256
"""Superblocks of the trusted kernel."""
_DEVICE = 16
"""Where `s_dev` is in the source's order."""
_MOST_GONE = 32
"""File systems of the trusted kernel that had a number and have none any more."""


class FileSystemForm(NamedTuple):
    """Byte offsets: in a super_block of its node on the list of all, and of its 32-bit device number; in a
    vfsmount of its root dentry and its superblock; in a struct path of mount and dentry."""

    super_list: int = 0
    super_device: int = _DEVICE
    mount_root: int = 0
    mount_super: int = 8
    path_mount: int = 0
    path_dentry: int = 8

    @property
    def mark_at(self) -> int:
        """Of the second word of a superblock's node on the list of all."""
        return self.super_list + 8

    def mounts_in(self, data: bytes, root: int, owner: int) -> Iterator[int]:
        """Where in `data`, which is aligned to words, a vfsmount of this root and superblock may begin."""
        words = memoryview(data).cast("Q")
        for number, word in enumerate(words):
            start = 8 * number - self.mount_root
            at = (start + self.mount_super) // 8
            if word == root and start >= 0 and at < len(words) and words[at] == owner:
                yield start

    def path(self, mount: int, dentry: int) -> tuple[int, int]:
        """The two words of a struct path."""
        return (mount, dentry) if self.path_mount < self.path_dentry else (dentry, mount)


def read_form(machine: Machine, kernel: StoredKernel, layout: Layout) -> FileSystemForm:
    """The fields of a booted kernel; as of a kernel that keeps the order of its source where they cannot be
    told."""
    try:
        return in_usual_or_larger(lambda sizes: _read_form(machine, kernel, layout, sizes), LookupError)
    except LookupError:
        return FileSystemForm()


def _read_form(machine: Machine, kernel: StoredKernel, layout: Layout, sizes: StructSizes) -> FileSystemForm:
    """LookupError if they cannot be told."""
    fs, nodes = kernel.symbols.get("init_fs"), set(_super_nodes(machine, kernel, layout))
    if fs is None or not nodes:
        raise LookupError
    found: Counter[FileSystemForm] = Counter()
    for first, second in pairwise(read_words(machine, fs + layout.kernel_delta, _FS_SIZE)):
        if first in layout and second in layout:
            for mount, dentry, places in ((first, second, (0, 8)), (second, first, (8, 0))):
                for fields in _fields(machine, mount, dentry, nodes, sizes):
                    found[FileSystemForm(fields[0], _DEVICE, *fields[1:], *places)] += 1
    if not found:
        raise LookupError
    most = max(found.values())
    form = min(form for form, count in found.items() if count == most)
    return form._replace(
        super_device=_device(machine, [node - form.super_list for node in nodes], sizes.super_block)
    )


def _device(machine: Machine, supers: list[int], size: int) -> int:
    """Where superblocks have their device numbers: those of file systems without a device are drawn one after
    the other (fs/super.c, `get_anon_bdev`)."""
    contents = [read_mapped(machine, vaddr, size) for vaddr in supers]
    drawn = range(1, len(supers) + _MOST_GONE)
    places = []
    for at in range(0, min(map(len, contents)), 4):
        numbers = {int.from_bytes(content[at : at + 4], "little") for content in contents}
        if len(numbers) == len(supers) and all(number in drawn for number in numbers):
            places.append(at)
    return _DEVICE if _DEVICE in places or len(places) != 1 else places[0]


def _super_nodes(machine: Machine, kernel: StoredKernel, layout: Layout) -> Iterator[int]:
    """The nodes of the list of all superblocks."""
    link = kernel.symbols.get("super_blocks")
    if link is not None:
        yield from ring_of(machine, link + layout.kernel_delta, _MOST_SUPERS)


def _fields(
    machine: Machine, mount: int, dentry: int, nodes: set[int], sizes: StructSizes
) -> Iterator[tuple[int, int, int]]:
    """`(super_list, mount_root, mount_super)` if these are a mount and its root, which is its own parent:
    both point to their superblock."""
    try:
        of_mount = read_words(machine, mount, _MOUNT_SIZE)
        of_dentry = read_words(machine, dentry, sizes.dentry)
    except UnmappedVirtual:
        return
    if dentry not in of_mount or dentry not in of_dentry:
        return
    for owner in set(of_mount) & set(of_dentry) - {dentry}:
        for node in nodes:
            if 0 <= node - owner < sizes.super_block:
                yield node - owner, 8 * of_mount.index(dentry), 8 * of_mount.index(owner)
