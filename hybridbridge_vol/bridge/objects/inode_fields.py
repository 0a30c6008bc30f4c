"""Where the kernel's structures for file systems link to each other: `struct super_block`, `inode`, `dentry`
and `mount` (include/linux/fs.h, dcache.h, fs/mount.h).

Found by value in the trusted kernel, at objects that its own code connects: the root directory, opened by the
proxy task. What follows from one kernel's layout is the same in the snapshot.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError, kernel_error
from hybridbridge_vol.kernel_file.struct_sizes import StructSizes, in_usual_or_larger
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.machine.words import read_padded, read_words
from hybridbridge_vol.units import U64

_MOUNT_SIZE = 512
"""Bytes of a mount in which pointers are looked for."""
_MOST_TRUSTED = 1 << 14
"""Inodes of one file system, and superblocks, of the trusted kernel."""
_KNOWN_TYPES = ("rootfs_fs_type", "shmem_fs_type", "sysfs_fs_type", "bd_type", "sock_fs_type", "pipe_fs_type")
_AT_FDCWD = -100 & U64
_STAT_AT, _STAT = 8192, struct.Struct("<QQ8xI")
"""Where in user memory the beginning of `struct stat` (arch/x86/include/uapi/asm/stat.h) is stored."""
_SAMPLES = ("/", "/dev", "/init", "/root")
"""Files of the trusted kernel's initramfs, whose numbers show where an inode has its own."""
MINOR_BITS = 20
"""include/linux/kdev_t.h."""


class InodeFields(NamedTuple):
    """Byte offsets: in an inode of `i_mode` (16 bits), `i_sb`, `i_ino`, its node on the list of its
    superblock and the first of its dentries; in a dentry of the node that this points to; in a superblock of
    the list of inodes, of its type, and of the first of its mounts; `mount` is what is to be added to that to
    get the `vfsmount`."""

    i_mode: int
    i_sb: int
    i_ino: int
    i_sb_list: int
    i_dentry: int
    d_alias: int
    s_inodes: int
    s_type: int
    s_mounts: int
    mount: int


def find_inode_fields(caller: Caller) -> InodeFields:
    """AttachError if the kernel's structures have an unknown form. CallRolledBack."""
    try:
        return in_usual_or_larger(lambda sizes: _find(caller, sizes), ValueError, StopIteration)
    except (KeyError, ValueError, StopIteration, UnmappedVirtual):
        raise AttachError(f"{caller.bridge.kernel.name}: this kernel's inodes have an unknown form") from None


class _Opened(NamedTuple):
    """An open file of the trusted kernel's: its inode, dentry and superblock (virtual addresses), the
    words of its inode, and its device, inode number and mode by stat(2)."""

    inode: int
    dentry: int
    super: int
    words: list[int]
    dev: int
    ino: int
    mode: int


def _opened(caller: Caller, path: str, supers: set[int], sizes: StructSizes) -> _Opened:
    """OSError if there is no such file, ValueError or StopIteration if it is not as expected."""
    bridge, machine = caller.bridge, caller.bridge.machine
    fd = caller.syscall("openat", _AT_FDCWD, caller.put(path.encode() + b"\0"), 0, 0)
    if fd < 0:
        raise kernel_error(fd, path)
    caller.syscall("newfstat", fd, caller.put(bytes(_STAT.size), _STAT_AT))
    dev, ino, mode = _STAT.unpack(caller.get(_STAT_AT, _STAT.size))
    file = caller.call(bridge.home("fget"), fd, label="fget") & U64
    caller.syscall("close", fd)
    pointers = [word for word in read_words(machine, file, sizes.file) if word in bridge.boot.layout]
    pairs = [
        (inode, dentry)
        for inode in pointers
        for dentry in pointers
        if inode != dentry and _belong(caller, inode, dentry, mode, supers, sizes)
    ]
    inode, dentry = next(chain((pair for pair in pairs if not _overlap(*pair, sizes)), pairs))
    words = read_words(machine, inode, sizes.inode)
    owner = next(word for word in words if word in supers)
    return _Opened(inode, dentry, owner, words, dev, ino, mode)


def _overlap(inode: int, dentry: int, sizes: StructSizes) -> bool:
    """Whether two pointers lead into one inode: to its page cache, which has all that `_belong` asks for
    together with the inode behind it, and to its beginning."""
    return 0 < inode - dentry < sizes.inode


def _belong(caller: Caller, inode: int, dentry: int, mode: int, supers: set[int], sizes: StructSizes) -> bool:
    """Whether an inode of a mode and a dentry point at each other, and both at a superblock: the page cache
    of an inode does not."""
    words = read_words(caller.bridge.machine, dentry, sizes.dentry)
    aliases = read_words(caller.bridge.machine, inode, sizes.inode)
    return (
        inode in words
        and not supers.isdisjoint(words)
        and not supers.isdisjoint(aliases)
        and any(mode in _halves(word) for word in aliases)
        and any(dentry <= word < dentry + sizes.dentry for word in aliases)
    )


def _find(caller: Caller, sizes: StructSizes) -> InodeFields:
    form = caller.bridge.prepared.file_systems
    nodes = _trusted_ring(caller, caller.bridge.home("super_blocks"))
    supers = {node - form.super_list for node in nodes}
    opened = []
    for path in _SAMPLES:
        try:
            opened.append(_opened(caller, path, supers, sizes))
        except OSError:
            continue
    root = opened[0]
    _check(caller, root)
    i_dentry = next(at for at, word in _at(root.words) if root.dentry <= word < root.dentry + sizes.dentry)
    inode_list = next(
        (at, head - root.super)
        for at, _word in _at(root.words)
        if (head := _head_in(caller, root.inode + at, range(root.super, root.super + sizes.super_block)))
    )
    s_mounts, mount = next(_mounts(caller, root, sizes))
    return InodeFields(
        i_mode=_only(
            {
                at + 2 * number
                for at, word in _at(item.words)
                for number, half in enumerate(_halves(word))
                if half == item.mode
            }
            for item in opened
        ),
        i_sb=8 * root.words.index(root.super),
        i_ino=_only({at for at, word in _at(item.words) if word == item.ino} for item in opened),
        i_sb_list=inode_list[0],
        i_dentry=i_dentry,
        d_alias=root.words[i_dentry // 8] - root.dentry,
        s_inodes=inode_list[1],
        s_type=_type_offset(caller, supers, sizes),
        s_mounts=s_mounts,
        mount=mount,
    )


def _check(caller: Caller, root: _Opened) -> None:
    """ValueError if `s_dev` is not where it should be."""
    place = root.super + caller.bridge.prepared.file_systems.super_device
    dev = int.from_bytes(caller.bridge.machine.read(place, 4), "little")
    if os.makedev(dev >> MINOR_BITS, dev & (1 << MINOR_BITS) - 1) != root.dev:
        raise ValueError


def _mounts(caller: Caller, root: _Opened, sizes: StructSizes) -> Iterator[tuple[int, int]]:
    """Where the superblock of the root directory may have the first of its mounts, and what is to be added to
    that to get to a `vfsmount`."""
    machine, form = caller.bridge.machine, caller.bridge.prepared.file_systems
    for at, word in _at(read_words(machine, root.super, sizes.super_block)):
        if word in caller.bridge.boot.layout:
            data = read_padded(machine, word - _MOUNT_SIZE, 2 * _MOUNT_SIZE)
            for found in form.mounts_in(data, root.dentry, root.super):
                yield at, found - _MOUNT_SIZE


def _at(words: list[int]) -> Iterator[tuple[int, int]]:
    """Each word with its offset in bytes."""
    return ((8 * number, word) for number, word in enumerate(words))


def _halves(word: int) -> tuple[int, ...]:
    """The four 16-bit numbers of a word."""
    return tuple(word >> shift & 0xFFFF for shift in range(0, 64, 16))


def _only(choices: Iterable[set[int]]) -> int:
    """The one that is in all of them; ValueError."""
    (found,) = set.intersection(*choices)
    return found


def _type_offset(caller: Caller, supers: set[int], sizes: StructSizes) -> int:
    """Where a superblock points to its type: where several have those of types that are known by name."""
    bridge = caller.bridge
    known = {bridge.home(name) for name in _KNOWN_TYPES if name in bridge.kernel.symbols}
    places = [
        {at for at, word in _at(read_words(bridge.machine, item, sizes.super_block)) if word in known}
        for item in supers
    ]
    return _only(found for found in places if found)


def _trusted_ring(caller: Caller, head: int) -> Iterator[int]:
    """The nodes of a list of the trusted kernel's. ValueError if it is not one."""
    read, node = caller.bridge.machine.read_u64, head
    for _ in range(_MOST_TRUSTED):
        following = read(node)
        if read(following + 8) != node:
            raise ValueError
        if following == head:
            return
        yield following
        node = following
    raise ValueError


def _head_in(caller: Caller, node: int, wanted: range) -> int:
    """The member of the ring at `node` that lies in `wanted`; 0 if it is not a ring, or has none there."""
    if caller.bridge.machine.read_u64(node) not in caller.bridge.boot.layout:
        return 0
    try:
        return next((item for item in _trusted_ring(caller, node) if item in wanted), 0)
    except (ValueError, UnmappedVirtual):
        return 0
