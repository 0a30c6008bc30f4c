"""A hostile image of file systems: forged sizes, page caches, dentries, inodes and lists, each in a file of
its own. Each spoils its own row, which says why; all others are those of the good image; nothing waits."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disks import TOP
from generations import Lab

from hybridbridge_vol.bridge.objects.inode_cache import CachedInode
from hybridbridge_vol.bridge.objects.inode_fields import find_inode_fields
from hybridbridge_vol.bridge.run import budget, caller
from hybridbridge_vol.guest import file_reader
from hybridbridge_vol.guest.file_content import PieceKind
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.files import TOOL
from hybridbridge_vol.units import PAGE_SIZE
from hybridbridge_vol.workflow.recover.recover import Selection, recover

NAME = "6.1 disks"
ENDLESS = (1 << 63) - 1
"""8 EiB: the largest size that a file can claim."""
NOWHERE = 0x4141_4141_4141_4140
"""A pointer that is not canonical."""
INODE_WORDS, DENTRY_WORDS = 128, 24
XA_SLOTS_AT, XA_SLOTS = 40, 64
"""struct xa_node, include/linux/xarray.h."""
PG_LOCKED, PG_UPTODATE = 1 << 0, 1 << 2
"""Bits of `flags` of a struct page, include/linux/page-flags.h of 6.1."""
SECONDS = 0.5
"""Processor time for one call: an endless one must not take the test's."""

ENDLESS_EXT4, ENDLESS_VFAT = f"{TOP}/ext4/big", f"{TOP}/vfat/big"
CYCLIC_PAGES, FORGED_PAGE = f"{TOP}/xfs/big", f"{TOP}/xfs/text/tiny"
HALF_READ, NOT_READ = f"{TOP}/secret/text/tiny", f"{TOP}/secret/text/passwd"
NO_INODE, CYCLIC_FOLDER = f"{TOP}/btrfs/program", "/etc"
SAME_PAGES = {
    f"{TOP}/secret/text/same",  # hard links
    f"{TOP}/xfs/text/same",
    f"{TOP}/one/big",  # overlays of the forged file
}
VICTIMS = {
    ENDLESS_EXT4, ENDLESS_VFAT, CYCLIC_PAGES, FORGED_PAGE, HALF_READ, NOT_READ, NO_INODE, CYCLIC_FOLDER,
} | SAME_PAGES  # fmt: skip


class Forger:
    """Finds what to forge in a good image; `words` are the changes, by offset in the image."""

    def __init__(self, session: Session) -> None:
        self._session = session
        inodes, broken = session.inodes.cached()
        assert not broken
        self._inodes = {(inode.super.device, inode.ino): inode for inode in inodes}
        self.words: dict[int, int] = {}

    def inode(self, path: str) -> CachedInode:
        """By its number, and the device that it is on."""
        ino = self._session.files.attributes(path).ino
        kind = {"secret": "ext4"}.get(path.split("/")[2], path.split("/")[2]) if TOP in path else "rootfs"
        (found,) = (
            inode for inode in self._inodes.values()
            if inode.ino == ino and inode.super.kind == kind and self.path(inode) == path
        )  # fmt: skip
        return found

    def path(self, inode: CachedInode) -> str:
        return self._session.inodes.name(inode) if inode.dentry_vaddr else ""

    def word(self, vaddr: int) -> int:
        return self._session.bridge.virtual_memory.read_u64(vaddr)

    def words_of(self, vaddr: int, count: int) -> list[int]:
        return [self.word(vaddr + 8 * number) for number in range(count)]

    def forge(self, vaddr: int, word: int) -> None:
        place = self._session.bridge.virtual_memory.translate(vaddr)
        assert place is not None
        offset = self._session.bridge.image.offset_of(place.paddr)
        assert offset is not None
        self.words[offset] = word

    def size(self, path: str, size: int) -> None:
        """`i_size`."""
        inode, now = self.inode(path), self._session.files.attributes(path).size
        (at,) = (
            at for at, word in enumerate(self.words_of(inode.vaddr, INODE_WORDS)) if word == now
        )  # fmt: skip
        self.forge(inode.vaddr + 8 * at, size)

    def pages(self, path: str) -> tuple[int, int]:
        """The address of the head of a file's page cache (`i_data.i_pages.xa_head`), and the head."""
        inode, base = self.inode(path), self._session.bridge.layout.vmemmap_base
        for at, word in enumerate(self.words_of(inode.vaddr, INODE_WORDS)):
            if 0 <= word - base < 1 << 40 or (word & 3 == 2 and self.is_node(word - 2)):
                return inode.vaddr + 8 * at, word
        raise AssertionError(path)

    def is_node(self, vaddr: int) -> bool:
        """Whether a root node of two levels is there."""
        try:
            return self.word(vaddr) & 0xFF == 6
        except UnreadableVirtual:
            return False

    def cyclic_pages(self, path: str) -> None:
        """Every slot of the root node leads to the node itself."""
        _at, head = self.pages(path)
        for slot in range(XA_SLOTS):
            self.forge(head - 2 + XA_SLOTS_AT + 8 * slot, head)

    def flags(self, path: str, added: int, removed: int) -> None:
        """Of the only page of a file."""
        _at, page = self.pages(path)
        self.forge(page, self.word(page) & ~removed | added)

    def no_inode(self, path: str) -> None:
        """`d_inode` leads nowhere."""
        inode = self.inode(path)
        words = self.words_of(inode.dentry_vaddr, DENTRY_WORDS)
        self.forge(inode.dentry_vaddr + 8 * words.index(inode.vaddr), NOWHERE)

    def cyclic_folder(self, path: str) -> None:
        """The first child of a directory is its own neighbour."""
        folder = self.inode(path).dentry_vaddr
        children = [self.inode(f"{path}/{name}").dentry_vaddr for name in self._session.files.listdir(path)]
        first = next(
            word for word in self.words_of(folder, DENTRY_WORDS)
            if any(child < word < child + 8 * DENTRY_WORDS for child in children)
        )  # fmt: skip
        self.forge(first, first)

    def cyclic_inodes(self, path: str) -> None:
        """An inode follows itself on the list of its superblock."""
        node = self.inode(path).vaddr + find_inode_fields(self._session.caller).i_sb_list
        self.forge(node, node)


@pytest.fixture(scope="module")
def hostile(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    forger = Forger(lab.session(NAME))
    forger.size(ENDLESS_EXT4, ENDLESS)
    forger.size(ENDLESS_VFAT, ENDLESS)
    forger.cyclic_pages(CYCLIC_PAGES)
    forger.forge(forger.pages(FORGED_PAGE)[0], NOWHERE)
    forger.flags(HALF_READ, PG_LOCKED, PG_UPTODATE)
    forger.flags(NOT_READ, 0, PG_UPTODATE)
    forger.no_inode(NO_INODE)
    forger.cyclic_folder(CYCLIC_FOLDER)
    forger.cyclic_inodes(f"{TOP}/squashfs/program")
    path = tmp_path_factory.mktemp("hostile") / "dump.raw"
    subprocess.run(["cp", "--sparse=always", lab.sample(NAME).dump, path], check=True)
    with path.open("r+b") as image:
        for offset, word in forger.words.items():
            image.seek(offset)
            image.write(struct.pack("<Q", word))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def session(lab: Lab, hostile: Path) -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "CALL_SECONDS", SECONDS)
        patch.setattr(budget, "LEAST_CALL_SECONDS", SECONDS)
        patch.setattr(caller, "PROGRAM_SECONDS", SECONDS)
        patch.setattr(file_reader, "MAX_LOST_SECONDS", 2 * SECONDS)
        with open_session(hostile, lab.store.root) as session:
            yield session


def rows(session: Session) -> list[tuple[Any, ...]]:
    return [row.cells for row in TOOL.rows(session, TOOL.defaults())]


STATE, PATH = (
    [column.name for column in TOOL.columns].index("STATE"),
    [column.name for column in TOOL.columns].index("PATH"),
)


def test_every_other_row_is_the_good_images(lab: Lab, session: Session) -> None:
    good, now = rows(lab.session(NAME)), rows(session)
    untouched = [cells for cells in good if not cells[STATE] and cells[PATH] not in VICTIMS]
    missing = [cells[PATH] for cells in untouched if cells not in now]
    below = {cells[PATH] for cells in good if cells[PATH].startswith(f"{CYCLIC_FOLDER}/")}
    assert set(missing) <= below and len(untouched) > 400
    by_path = {cells[PATH]: cells for cells in now}
    assert below <= set(by_path)  # the list of inodes still has them
    errors = [cells[0].reason for cells in now if isinstance(cells[0], Unavailable)]
    assert any(reason.startswith(f"{CYCLIC_FOLDER}: listed in part") for reason in errors)
    assert any("(squashfs): it leads back into itself" in reason for reason in errors)
    assert isinstance(by_path[NO_INODE][0], Unavailable)
    assert all(path in by_path for path in VICTIMS)


@pytest.mark.parametrize("path", [ENDLESS_EXT4, ENDLESS_VFAT])
def test_a_file_of_8_eib_ends(lab: Lab, session: Session, path: str) -> None:
    started = time.process_time()
    pieces = list(session.files.pieces(path))
    assert time.process_time() - started < 5
    assert pieces[-1].end == ENDLESS
    data = [piece for piece in pieces if piece.kind is PieceKind.DATA]
    good = [piece for piece in lab.session(NAME).files.pieces(path) if piece.kind is PieceKind.DATA]
    assert data == good


@pytest.mark.parametrize(
    ("path", "reason"),
    [(HALF_READ, "locked at the capture"), (NOT_READ, "not in the page cache")],
)
def test_a_page_that_was_being_read_is_missing(session: Session, path: str, reason: str) -> None:
    (piece,) = session.files.pieces(path)
    assert (piece.kind, piece.reason) == (PieceKind.MISSING, reason)


@pytest.mark.parametrize("path", [CYCLIC_PAGES, FORGED_PAGE])
def test_a_forged_page_cache_gives_no_byte(session: Session, path: str) -> None:
    size = session.files.attributes(path).size
    pieces = list(session.files.pieces(path))
    assert sum(piece.size for piece in pieces) == size
    assert all(piece.kind is not PieceKind.DATA and (piece.reason or piece.size) for piece in pieces)
    assert any(piece.kind is PieceKind.MISSING for piece in pieces)


def test_a_recovery_has_a_row_for_each(session: Session, tmp_path: Path) -> None:
    """In sparse files: 8 EiB take no room."""
    out = tmp_path / "out"
    summary = recover(session, out, Selection(patterns=(ENDLESS_VFAT, HALF_READ, FORGED_PAGE)))
    assert (summary.files, summary.complete, summary.errors) == (3, 0, 0)
    used = sum(path.stat().st_blocks * 512 for path in out.rglob("*") if path.is_file())
    assert used < 1 << 20 and PAGE_SIZE < used
