"""The files of real file systems: ext4, xfs, btrfs, vfat, squashfs, an encrypted disk, overlays.

The guest wrote and hashed them, mounted the disks anew, read some files in part, and asked mincore(2) for
each page right before its capture.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import re
import stat
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from default_run import in_default_run
from disks import DISKS, TOP, Listed, hashes, listed
from generations import Lab
from mounted import NEEDS_FUSE, mounted_image

from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.statistics import CallCount
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.file_content import IncompleteDirectory, Piece, PieceKind
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.provenance import with_provenance
from hybridbridge_vol.tools.cat import TOOL as CAT
from hybridbridge_vol.tools.file_system.unreached import NOT_REACHED, WITHOUT_NAME, every_file
from hybridbridge_vol.tools.files import TOOL
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import PAGE_SIZE
from hybridbridge_vol.workflow.recover.guest_disk import Disk
from hybridbridge_vol.workflow.recover.recover import Selection, recover
from samples.make import Sample
from samples.qemu import disk_name

FILE_SYSTEMS = ("ext4", "xfs", "btrfs", "vfat", "squashfs", "secret", "one", "two")
"""Folders of `TOP`; `secret` is an ext4 on dm-crypt, `one` and `two` are overlays."""
_MICROSECOND = 1.5e-6
"""Seconds by which a time that was cut may differ from one that was not, in floats of 2**-22."""


@pytest.fixture(scope="module", params=in_default_run(sorted(DISKS), "6.1 disks"))
def name(request: pytest.FixtureRequest) -> str:
    """The sample's."""
    return str(request.param)


@pytest.fixture(scope="module")
def sample(lab: Lab, name: str) -> Sample:
    return lab.sample(name)


@pytest.fixture(scope="module")
def store(lab: Lab) -> Store:
    return lab.store


@pytest.fixture(scope="module")
def session(lab: Lab, name: str) -> Session:
    return lab.session(name)


@pytest.fixture(scope="module")
def entries(sample: Sample) -> list[Listed]:
    found = list(listed(sample.truth))
    kinds = Counter(entry.path.split("/")[2] for entry in found if entry.path != TOP)
    assert set(kinds) == set(FILE_SYSTEMS) and min(kinds.values()) > 15
    return found


def shown(pieces: list[Piece]) -> list[PieceKind]:
    """What each page of a file is."""
    kinds: list[PieceKind] = []
    for piece in pieces:
        kinds += [piece.kind] * (-(-piece.end // PAGE_SIZE) - len(kinds))
    return kinds


def test_attributes_links_and_times_are_the_guests(session: Session, entries: list[Listed]) -> None:
    for entry in entries:
        seen = session.files.attributes(entry.path)
        assert (
            seen.mode, seen.uid, seen.gid, seen.nlink, seen.size, seen.blocks, seen.ino
        ) == entry[1:8], entry.path  # fmt: skip
        for ours, theirs in zip((seen.atime, seen.ctime, seen.mtime, seen.btime), entry.times, strict=True):
            assert (ours is None) == (theirs is None), entry.path
            assert ours is None or theirs is None or abs(ours - theirs) <= _MICROSECOND, entry.path
        if stat.S_ISLNK(entry.mode):
            assert session.files.readlink(entry.path) == entry.target


def test_extended_attributes_are_the_guests(session: Session, entries: list[Listed]) -> None:
    compared = 0
    for entry in entries:
        if stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode):
            assert session.files.xattrs(entry.path) == entry.xattrs, entry.path
            compared += bool(entry.xattrs)
    assert compared >= 4


def test_folders_hold_the_guests_names(session: Session, entries: list[Listed]) -> None:
    names: dict[str, set[str]] = {}
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        names.setdefault(folder, set()).add(name)
    for entry in entries:
        if entry.path in names and entry.path != TOP:
            assert set(session.files.listdir(entry.path)) == names[entry.path], entry.path


def test_a_file_is_missing_exactly_where_the_page_cache_had_no_page(
    session: Session, entries: list[Listed]
) -> None:
    missing = Counter[bool]()
    for entry in entries:
        if not stat.S_ISREG(entry.mode):
            continue
        kinds = shown(list(session.files.pieces(entry.path)))
        assert len(kinds) == len(entry.pages), entry.path
        for number, (kind, cached) in enumerate(zip(kinds, entry.pages, strict=True)):
            if kind is not PieceKind.HOLE:  # the file system knows these without a page
                assert (kind is PieceKind.DATA) == cached, f"{entry.path}, page {number}"
        missing[PieceKind.MISSING in kinds] += 1
    assert min(missing.values()) > 40


def test_not_a_byte_is_wrong(session: Session, entries: list[Listed], sample: Sample) -> None:
    written = hashes(sample.truth)
    compared = Counter[str]()
    for entry in entries:
        if not stat.S_ISREG(entry.mode) or entry.path not in written:
            continue
        pieces = list(session.files.pieces(entry.path))
        if any(piece.kind is PieceKind.MISSING for piece in pieces):
            continue
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece.data if piece.kind is PieceKind.DATA else bytes(piece.size))
        assert digest.hexdigest() == written[entry.path], entry.path
        compared[entry.path.split("/")[2]] += 1
    assert set(compared) == set(FILE_SYSTEMS) and min(compared.values()) >= 4


def test_what_nobody_looked_at_is_reported_as_not_known(session: Session) -> None:
    for name in FILE_SYSTEMS:
        folder = f"{TOP}/{name}/cold"
        try:
            assert session.files.listdir(folder) == ["unseen"]  # its block may be in the buffer cache
        except IncompleteDirectory as error:
            assert error.names == []
        try:
            session.files.attributes(f"{folder}/unseen")  # and so may its inode be
        except CallRolledBack:
            continue  # some file systems wait for a disk in their own way
        except OSError as error:
            assert str(error.strerror).endswith("not in memory"), folder


def test_files_lists_mounts_and_owners_by_name(session: Session) -> None:
    given = TOOL.defaults() | {"path": f"{TOP}/*/text/passwd"}
    names = [column.name for column in TOOL.columns]
    seen = {}
    for row in TOOL.rows(session, given):
        cells = dict(zip(names, row.cells, strict=True))
        seen[cells["PATH"]] = (cells["FS"], cells["MOUNT"], cells["USER"], cells["GROUP"], cells["CACHED"])
    assert seen[f"{TOP}/btrfs/text/passwd"][:4] == ("btrfs", f"{TOP}/btrfs", "alice", "root")
    assert seen[f"{TOP}/secret/text/passwd"][:4] == ("ext4", f"{TOP}/secret", "alice", "root")
    assert seen[f"{TOP}/one/text/passwd"][:3] == ("overlay", f"{TOP}/one", "alice")
    assert {mount for _, mount, *_ in seen.values()} >= {f"{TOP}/{name}" for name in FILE_SYSTEMS}


def test_a_container_sees_its_own_root(sample: Sample, store: Store, session: Session) -> None:
    for name in ("one", "two"):
        (pid,) = (
            pid
            for pid in map(int, filter(str.isdecimal, session.files.listdir("/proc")))
            if session.files.read(f"/proc/{pid}/comm") == f"{name}\n".encode()
        )
        assert (
            b"".join(piece.data for piece in session.files.pieces(f"/proc/{pid}/root/own"))
            == f"{name}\n".encode()
        )
        with open_session(sample.dump, store.root, ns_of=pid) as inside:
            assert inside.files.read("/own") == f"{name}\n".encode()
            assert set(inside.files.listdir("/")) == set(session.files.listdir(f"{TOP}/{name}"))


def test_nothing_is_rolled_back_and_the_second_run_falls_back_nowhere(
    sample: Sample, store: Store, entries: list[Listed], session: Session
) -> None:
    session.keep_learned()

    def ask() -> tuple[list[Any], CallCount]:
        with open_session(sample.dump, store.root) as again:
            answers = [
                (entry.path, again.files.attributes(entry.path), list(again.files.pieces(entry.path)))
                for entry in entries
                if stat.S_ISREG(entry.mode)
            ]
            return answers, again.caller.hybrid.statistics.total

    first, _ = ask()
    second, counts = ask()
    assert first == second
    assert (counts.traps, counts.rolled_back) == (0, 0)


def test_both_bridges_read_the_same_pages(
    sample: Sample, store: Store, entries: list[Listed], session: Session
) -> None:
    """Three files of each file system, the one of which a part is missing among them."""
    chosen = [f"{TOP}/{name}/{file}" for name in FILE_SYSTEMS for file in ("text/passwd", "big", "sparse")]
    with open_session(sample.dump, store.root, mode=Mode.SLOW) as slow:
        for path in chosen:
            assert list(slow.files.pieces(path)) == list(session.files.pieces(path)), path
            assert slow.files.attributes(path) == session.files.attributes(path), path
        assert (slow.statistics.unattributed, slow.rolled_back) == ({}, 0)


def test_reading_again_says_the_same(session: Session, entries: list[Listed]) -> None:
    """A page that cannot be read is not left locked."""
    files = [entry for entry in entries if stat.S_ISREG(entry.mode)]
    first = [list(session.files.pieces(entry.path)) for entry in files]
    for entry, pieces in zip(files, first, strict=True):
        assert list(session.files.pieces(entry.path)) == pieces, entry.path


def test_each_page_lies_in_the_image_where_it_is_said_to(
    session: Session, entries: list[Listed], sample: Sample
) -> None:
    """The kernel's own copy of a page, made by its own code, is what the image holds there."""
    compared = 0
    with sample.dump.open("rb") as image:
        for path in (f"{TOP}/{name}/big" for name in FILE_SYSTEMS):
            pieces = [piece for piece in session.files.pieces(path) if piece.kind is PieceKind.DATA]
            for item in (item for piece in pieces for item in piece.ranges):
                offset = session.bridge.image.offset_of(item.paddr)
                assert offset is not None
                image.seek(offset)
                assert session.files.read_at(path, item.offset, PAGE_SIZE) == image.read(PAGE_SIZE)
                compared += item.size
            assert sum(item.size for piece in pieces for item in piece.ranges) == sum(p.size for p in pieces)
    assert compared > 1 << 20


def test_provenance_names_the_place_of_each_page(sample: Sample, store: Store, session: Session) -> None:
    path = f"{TOP}/ext4/big"
    missing = sum(piece.size for piece in session.files.pieces(path) if piece.kind is PieceKind.MISSING)
    with open_session(sample.dump, store.root, mode=Mode.SLOW) as slow:
        rows = [row.cells for row in with_provenance(CAT).rows(slow, {"path": (path,)})]
    absent = [cells for cells in rows if isinstance(cells[2], Unavailable)]
    assert missing and sum(int(str(cells[1])) for cells in absent) == missing
    with sample.dump.open("rb") as image:
        for start, size, shown, origin, paddr in (cells for cells in rows if cells not in absent):
            offset, plus = (int(word, 0) for word in str(origin).split("+"))
            assert (size, plus, int(str(paddr), 0)) == (PAGE_SIZE, PAGE_SIZE, offset)  # a raw image
            image.seek(offset)
            data = session.files.read_range(path, int(str(start)), PAGE_SIZE)
            assert data == image.read(PAGE_SIZE) and text(data) == shown


def test_files_finds_what_no_path_leads_to(session: Session, sample: Sample, tmp_path: Path) -> None:
    """A file below a mount has its name and content; the journal of an ext4, which has no name, the size that
    its disk says."""
    found = {entry.shown_as or entry.path: entry for entry in every_file(session) if entry.kind}
    kept = found[f"{TOP}/ext4/covered/kept"]
    digest = hashlib.sha256(session.files.read(kept.path)).hexdigest()
    assert (kept.state, digest) == (NOT_REACHED, hashes(sample.truth)[f"{TOP}/ext4/covered/kept"])
    journal = next(
        entry for entry in found.values()
        if entry.kind == "ext4" and entry.attributes is not None and entry.attributes.ino == JOURNAL
    )  # fmt: skip
    assert journal.attributes is not None
    assert (journal.state, journal.attributes.size) == (WITHOUT_NAME, size_of_journal(sample))
    summary = recover(session, tmp_path / "out", Selection(patterns=(f"{TOP}/ext4/covered/kept",)))
    assert (summary.files, summary.complete) == (1, 1)
    recovered = tmp_path / "out" / "inodes" / kept.path.rpartition("/")[2]
    assert hashlib.sha256(recovered.read_bytes()).hexdigest() == digest
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["read_from"] == kept.path
    image = sample.dump.read_bytes()
    content = b""
    for part in row["pages"].split("; "):
        start, end, _paddr, offset = re.fullmatch(r"(\d+)-(\d+)@(0x[0-9a-f]+)/(0x[0-9a-f]+)", part).groups()  # type: ignore[union-attr]
        assert int(start) == len(content)
        content += image[int(offset, 0) : int(offset, 0) + int(end) - int(start) + 1]
    assert hashlib.sha256(content).hexdigest() == digest


JOURNAL = 8
"""EXT4_JOURNAL_INO, fs/ext4/ext4.h."""


def size_of_journal(sample: Sample) -> int:
    """By the backup of its inode in the superblock, `s_jnl_blocks[15..16]` (fs/ext4/ext4.h)."""
    with (sample.folder / disk_name(0)).open("rb") as disk:
        disk.seek(1024 + 0x10C + 15 * 4)
        high, low = struct.unpack("<II", disk.read(8))
    return int(high << 32 | low)


def test_a_disk_fills_what_memory_lacks(sample: Sample, session: Session, tmp_path: Path) -> None:
    """The guest had written everything back before it mounted the disk anew."""
    path = f"{TOP}/ext4/unread"
    disk = Disk.parse(f"{TOP}/ext4={sample.folder / disk_name(0)}")
    alone = recover(session, tmp_path / "alone", Selection(patterns=(path,)))
    filled = recover(session, tmp_path / "filled", Selection(patterns=(path,)), [disk])
    assert (alone.files, alone.complete, filled.complete) == (1, 0, 1)
    recovered = (tmp_path / "filled" / "files" / path.lstrip("/")).read_bytes()
    assert hashlib.sha256(recovered).hexdigest() == hashes(sample.truth)[path]


@NEEDS_FUSE
def test_the_examiners_own_tools_read_the_mounted_tree(
    sample: Sample, store: Store, entries: list[Listed], tmp_path: Path
) -> None:
    """`find` lists what the guest listed, `sha256sum` gives its hashes, and an incomplete file is EIO."""
    written, folder = hashes(sample.truth), tmp_path / "case"
    with mounted_image(sample.dump, store.root, folder):
        found = subprocess.run(["find", folder / "mnt", "-print0"], capture_output=True, check=False).stdout
        paths = {"/" + os.fsdecode(path).removeprefix(f"{folder}/") for path in found.split(b"\0") if path}
        assert {entry.path for entry in entries} <= paths
        complete = Counter[bool]()
        for entry in entries:
            if not stat.S_ISREG(entry.mode) or entry.path not in written:
                continue
            try:
                content = (folder / entry.path.lstrip("/")).read_bytes()
            except OSError as error:
                assert error.errno == errno.EIO and not all(entry.pages), entry.path
                complete[False] += 1
            else:
                assert hashlib.sha256(content).hexdigest() == written[entry.path], entry.path
                complete[True] += 1
        assert min(complete.values()) > 30
