"""All inodes that the snapshot's kernel holds, file system by file system: the list of superblocks
(`super_blocks`, fs/super.c), and of each the list of its inodes (`s_inodes`). No path leads to some of them:
their names have left memory, were removed, or are covered by a mount.

The lists are followed through the image, with bounds; nothing is taken to be true of what they lead to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.objects.inode_fields import MINOR_BITS, InodeFields
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import PAGE_SIZE, U64

MAX_SUPERBLOCKS = 1 << 16
MAX_INODES = 10_000_000
"""Of all file systems together: a list of more is cyclic or forged."""
_LONGEST_NAME = 64
"""Bytes of a file system type's name that are read."""
_WORD_SIZE = 8
_KEPT_PAGES = 4096


class CachedSuper(NamedTuple):
    """A superblock: its address, its type's name, the device number of its files in most file systems
    (major, minor), and the address of a `vfsmount` of it, 0 if it is mounted nowhere."""

    vaddr: int
    kind: str
    device: tuple[int, int]
    mount_vaddr: int


class CachedInode(NamedTuple):
    """An inode: its address, its file system, number and mode, and the address of a dentry of it, 0 if there
    is none."""

    vaddr: int
    super: CachedSuper
    ino: int
    mode: int
    dentry_vaddr: int


class BrokenList(NamedTuple):
    """A list that could not be followed to its end. `super`: whose inodes they are; None: superblocks."""

    super: CachedSuper | None
    reason: str


class InodeCache:
    """Reads the lists of one snapshot; `left_out`: types of file systems whose inodes are not wanted."""

    def __init__(self, bridge: Bridge, fields: InodeFields, left_out: frozenset[str] = frozenset()) -> None:
        self._bridge = bridge
        self._fields = fields
        self._left_out = left_out
        self._left = MAX_INODES
        self._pages: dict[int, bytes] = {}

    def inodes(self) -> Iterator[CachedInode | BrokenList]:
        """Every inode; and each list that does not come to its end, where it breaks off."""
        self._left = MAX_INODES
        for item in self._ring(self._bridge.snapshot("super_blocks"), MAX_SUPERBLOCKS):
            if isinstance(item, str):
                yield BrokenList(None, item)
                continue
            vaddr = (item - self._bridge.prepared.file_systems.super_list) & U64
            try:
                found = self._super(vaddr)
            except UnreadableVirtual as error:
                yield BrokenList(None, f"the superblock at {vaddr:#x}: {error}")
                continue
            if found.kind not in self._left_out:
                yield from self._inodes_of(found)

    def _inodes_of(self, owner: CachedSuper) -> Iterator[CachedInode | BrokenList]:
        fields = self._fields
        for node in self._ring(owner.vaddr + fields.s_inodes, self._left):
            if isinstance(node, str):
                yield BrokenList(owner, node)
                return
            self._left -= 1
            vaddr = (node - fields.i_sb_list) & U64
            try:
                yield self._inode(vaddr, owner)
            except UnreadableVirtual as error:
                yield BrokenList(owner, f"the inode at {vaddr:#x}: {error}")

    def _super(self, vaddr: int) -> CachedSuper:
        fields, device_at = self._fields, vaddr + self._bridge.prepared.file_systems.super_device
        dev = self._word(device_at) & 0xFFFFFFFF
        first = self._word(vaddr + fields.s_mounts)
        none = first in (0, vaddr + fields.s_mounts)
        return CachedSuper(
            vaddr,
            self._type_name(self._word(vaddr + fields.s_type)),
            (dev >> MINOR_BITS, dev & (1 << MINOR_BITS) - 1),
            0 if none else (first + fields.mount) & U64,
        )

    def _type_name(self, vaddr: int) -> str:
        """The name of a `struct file_system_type`, whose first field it is."""
        memory = self._bridge.virtual_memory
        try:
            name = memory.read_padded(self._word(vaddr), _LONGEST_NAME)
        except UnreadableVirtual:
            return "?"
        text = name.split(b"\0")[0].decode("ascii", "replace")
        return text if text.isprintable() and text else "?"

    def _inode(self, vaddr: int, owner: CachedSuper) -> CachedInode:
        alias = self._word(vaddr + self._fields.i_dentry)
        return CachedInode(
            vaddr,
            owner,
            self._word(vaddr + self._fields.i_ino),
            self._word(vaddr + self._fields.i_mode) & 0xFFFF,
            (alias - self._fields.d_alias) & U64 if alias else 0,
        )

    def _ring(self, head: int, most: int) -> Iterator[int | str]:
        """The nodes of a list; a reason, last, if it does not come back to its head."""
        met: set[int] = set()
        node = head
        while True:
            try:
                following = self._word(node)
            except UnreadableVirtual:
                yield f"it leads out of the image at {node:#x}"
                return
            if following == head:
                return
            if following in met:
                yield f"it leads back into itself at {node:#x}"
                return
            if len(met) >= most:
                yield f"more than {MAX_INODES:,} inodes"
                return
            met.add(following)
            yield following
            node = following

    def _word(self, vaddr: int) -> int:
        """UnreadableVirtual, also for what is not an address of the kernel's."""
        if not self._bridge.may_be_snapshot(vaddr):
            raise UnreadableVirtual(vaddr)
        at = vaddr % PAGE_SIZE
        page = self._page(vaddr - at)
        if at <= len(page) - _WORD_SIZE:
            return int.from_bytes(page[at : at + _WORD_SIZE], "little")
        return self._bridge.virtual_memory.read_u64(vaddr)

    def _page(self, page_vaddr: int) -> bytes:
        """A page, which is kept, as it has many inodes. Empty where the image lacks some of it, and in the
        kernel image, which no page tables are asked about."""
        page = self._pages.get(page_vaddr)
        if page is None:
            is_image = -PAGE_SIZE < page_vaddr - self._bridge.layout.text_vaddr < self._bridge.layout.size
            place = None if is_image else self._bridge.virtual_memory.translate(page_vaddr)
            data = None if place is None else self._bridge.image.read_available(place.paddr, PAGE_SIZE)
            if len(self._pages) >= _KEPT_PAGES:
                self._pages.clear()
            page = self._pages[page_vaddr] = data or b""
        return page
