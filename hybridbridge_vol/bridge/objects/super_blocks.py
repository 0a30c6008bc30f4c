"""The kernel's list of all superblocks, `super_blocks`, and a mount of each: also of file systems that the
kernel has mounted for itself only (`kern_mount`, fs/namespace.c; `simple_pin_fs`, fs/libfs.c), such as
tracefs and debugfs, which no list of mounts shows.

Where a `struct super_block` has its type, its root and its mounts is found by value in the trusted kernel,
whose superblocks are of the same build. The list is then followed through the snapshot's memory.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.kernel_file.struct_sizes import StructSizes, in_usual_or_larger
from hybridbridge_vol.machine.words import read_padded, read_words, ring_of
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import U64

MAX_SUPER_BLOCKS = 1 << 14
"""A machine of many containers has some thousands: a longer list is cyclic or forged."""
_MOST_TRUSTED = 4
_SIZE = 2048
"""Bytes of a super_block in which pointers are looked for."""
_AROUND = 512
"""Bytes before and behind the link to a mount in which its `struct vfsmount` is looked for."""
_MAX_NAME = 32
_MINOR_BITS = 20
_TYPES = ("shmem_fs_type", "debug_fs_type", "trace_fs_type", "sock_fs_type", "pipe_fs_type")
"""Types that superblocks of the trusted kernel have."""


class _Offsets(NamedTuple):
    """Byte offsets: of `s_type`, `s_root` and `s_mounts` in a super_block, and from what the last points to
    to the vfsmount."""

    type: int
    root: int
    mounts: int
    vfsmount: int


class SuperBlock(NamedTuple):
    """A superblock of the snapshot, at `vaddr`. `root` is the dentry of its root directory, `mount` one of
    its mounts (a `struct vfsmount`; 0 if it has none): virtual addresses, which the image may have forged,
    but not to ones of the trusted side. `device` is `major:minor`."""

    vaddr: int
    kind: str
    device: str
    root: int
    mount: int


def super_blocks(bridge: Bridge) -> list[SuperBlock]:
    """The snapshot's superblocks that have a root, in the order of the list; as far as it can be followed.
    LookupError if this kernel's are not where they should be."""
    offsets = in_usual_or_larger(lambda sizes: _offsets(bridge, sizes), LookupError)
    read = bridge.virtual_memory.read_u64
    head = bridge.snapshot("super_blocks")
    found: dict[int, SuperBlock | None] = {}
    try:
        node = read(head)
        while node != head and node not in found and len(found) < MAX_SUPER_BLOCKS:
            vaddr = (node - bridge.prepared.file_systems.super_list) & U64
            found[node] = _super_block(bridge, vaddr, offsets)
            node = read(node)
    except UnreadableVirtual:
        pass  # the rest of the list is not in the image
    return [block for block in found.values() if block is not None]


def _super_block(bridge: Bridge, vaddr: int, offsets: _Offsets) -> SuperBlock | None:
    """None if it has no root any more, or cannot be read."""
    memory = bridge.virtual_memory
    try:
        device = memory.read_u64(vaddr + bridge.prepared.file_systems.super_device) & 0xFFFF_FFFF
        kind = _text(bridge, memory.read_u64(memory.read_u64(vaddr + offsets.type)))
        root = memory.read_u64(vaddr + offsets.root)
        if not (bridge.may_be_snapshot(vaddr) and bridge.may_be_snapshot(root)):
            return None
        return SuperBlock(
            vaddr,
            kind,
            f"{device >> _MINOR_BITS}:{device & ((1 << _MINOR_BITS) - 1)}",
            root,
            _mount(bridge, vaddr, offsets),
        )
    except UnreadableVirtual:
        return None


def _mount(bridge: Bridge, vaddr: int, offsets: _Offsets) -> int:
    memory = bridge.virtual_memory
    try:
        mount = memory.read_u64(vaddr + offsets.mounts) + offsets.vfsmount
        owner = mount + bridge.prepared.file_systems.mount_super
        fits = bridge.may_be_snapshot(owner) and memory.read_u64(owner) == vaddr
    except UnreadableVirtual:
        return 0
    return mount if fits else 0


def words_of(bridge: Bridge, block: SuperBlock) -> set[int]:
    """The 64-bit words that a superblock holds."""
    data = bridge.virtual_memory.read_padded(block.vaddr, _SIZE)
    return set(struct.unpack(f"<{_SIZE // 8}Q", data))


def _text(bridge: Bridge, vaddr: int) -> str:
    """A short string of the snapshot's."""
    data = b""
    while b"\0" not in data and len(data) < _MAX_NAME:
        data += bridge.virtual_memory.read_u64(vaddr + len(data)).to_bytes(8, "little")
    return data.split(b"\0")[0].decode("latin-1")


# --- where fields are, by the trusted kernel's own superblocks ---------------------------------------------


def _offsets(bridge: Bridge, sizes: StructSizes) -> _Offsets:
    types = {bridge.home(name) for name in _TYPES if name in bridge.kernel.symbols}
    found: tuple[Counter[int], Counter[int], Counter[tuple[int, int]]] = Counter(), Counter(), Counter()
    for block in _trusted(bridge):
        words = read_words(bridge.machine, block, sizes.super_block)
        found[0].update(8 * at for at, word in enumerate(words) if word in types)
        roots = [at for at, word in enumerate(words) if _is_root(bridge, word, block, sizes)]
        found[1].update(8 * at for at in roots)
        found[2].update(
            (8 * at, distance)
            for at, word in enumerate(words)
            for root in roots
            for distance in _vfsmounts(bridge, word, words[root], block)
        )
    types_at, roots_at, mounts_at = found
    return _Offsets(_agreed(types_at, "type"), _agreed(roots_at, "root"), *_agreed(mounts_at, "mounts"))


T = TypeVar("T")


def _agreed(found: Counter[T], what: str) -> T:
    """What most superblocks agree on; of several the first one."""
    if not found:
        raise LookupError(f"this kernel's superblocks have their {what} somewhere else")
    return found.most_common(1)[0][0]


def _trusted(bridge: Bridge) -> list[int]:
    """Superblocks of the trusted kernel."""
    nodes = ring_of(bridge.machine, bridge.home("super_blocks"), _MOST_TRUSTED)
    return [node - bridge.prepared.file_systems.super_list for node in nodes]


def _is_root(bridge: Bridge, vaddr: int, block: int, sizes: StructSizes) -> bool:
    """Whether this is a dentry of this superblock that is its own parent."""
    if vaddr not in bridge.boot.layout:
        return False
    words = read_words(bridge.machine, vaddr, sizes.dentry)
    return vaddr in words and block in words


def _vfsmounts(bridge: Bridge, vaddr: int, root: int, block: int) -> Iterator[int]:
    """The distances from an address to a vfsmount of this superblock."""
    if vaddr in bridge.boot.layout:
        data = read_padded(bridge.machine, vaddr - _AROUND, 2 * _AROUND)
        yield from (at - _AROUND for at in bridge.prepared.file_systems.mounts_in(data, root, block))
