"""Recovering files: what a hostile name, a hole and a missing page become; and real files of a real guest."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from generations import RICH, Lab
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import OptionError, RecoverError
from hybridbridge_vol.guest.file_content import MissingRange, Piece, PieceKind
from hybridbridge_vol.guest.file_extents import Extent
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.tools.file_system.walk import Entry
from hybridbridge_vol.trust import modules as trusted_modules
from hybridbridge_vol.workflow.recover.content import RecoveredContent, spool, without_ranges
from hybridbridge_vol.workflow.recover.guest_disk import Disk, DiskRange, on_disk
from hybridbridge_vol.workflow.recover.output import FolderTarget, TarTarget, safe_name
from hybridbridge_vol.workflow.recover.recover import Selection, recover, stored_name

PAGE = 4096


def data(offset: int, content: bytes) -> Piece:
    return Piece(PieceKind.DATA, offset, len(content), content)


def nothing_on_disk(_missing: MissingRange) -> tuple[list[DiskRange], list[tuple[int, bytes]]]:
    return [], []


PIECES = [
    data(0, b"a" * PAGE),
    Piece(PieceKind.HOLE, PAGE, PAGE),
    Piece(PieceKind.MISSING, 2 * PAGE, PAGE, reason="not in the page cache"),
    data(3 * PAGE, b"end"),
]


def spooled(folder: Path, pieces: list[Piece] = PIECES) -> RecoveredContent:
    return spool(pieces, folder, nothing_on_disk)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300))
def test_no_name_leads_out_of_the_output(text: str) -> None:
    try:
        name = safe_name(text)
    except RecoverError:
        return
    assert not name.startswith("/")
    assert all(part not in ("", ".", "..") and len(os.fsencode(part)) <= 255 for part in name.split("/"))


@pytest.mark.parametrize("path", ["/a/../../etc/passwd", "/..", "/", "", "/a/./b", "/a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(RecoverError):
        safe_name(path)


def test_an_incomplete_file_never_takes_a_complete_ones_name() -> None:
    path = "/x"
    names = [
        stored_name(Entry(path, None), complete=False),
        *(
            stored_name(Entry(other, None), complete=True)
            for other in (path, "/x.incomplete", "/incomplete/files/x")
        ),
    ]
    assert len(set(names)) == len(names)
    assert not any(name.startswith(f"{other}/") for name in names for other in names)


def test_a_folder_holds_sparse_files_that_nobody_can_execute(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "out")
    content = spooled(target.folder)
    target.take("incomplete/files/x", content, 0o104755, 1e9)
    stored = tmp_path / "out" / "incomplete" / "files" / "x"
    assert stored.read_bytes() == b"a" * PAGE + bytes(2 * PAGE) + b"end"
    assert stored.stat().st_mode & 0o7777 == 0o600
    assert stored.stat().st_mtime == 1e9
    assert [str(item) for item in content.missing] == ["bytes 8,192 to 12,287: not in the page cache"]


def test_gnu_tar_extracts_what_an_archive_holds(tmp_path: Path) -> None:
    target = TarTarget(tmp_path / "out.tar")
    target.take("files/sparse", spooled(tmp_path), 0o755, 1e9)
    target.take("files/whole", spooled(tmp_path, [data(0, b"whole")]), 0o644, 1e9)
    target.take("files/empty", spooled(tmp_path, []), 0o644, 1e9)
    target.close()
    subprocess.run(["tar", "-xf", tmp_path / "out.tar", "-C", tmp_path], check=True)
    assert (tmp_path / "files" / "sparse").read_bytes() == b"a" * PAGE + bytes(2 * PAGE) + b"end"
    assert (tmp_path / "files" / "whole").read_bytes() == b"whole"
    assert (tmp_path / "files" / "empty").read_bytes() == b""
    with tarfile.open(tmp_path / "out.tar") as archive:  # the library's own reader knows the form, too
        member = archive.extractfile("files/sparse")
        assert member is not None and member.read() == (tmp_path / "files" / "sparse").read_bytes()


def test_a_huge_sparse_file_takes_no_room(tmp_path: Path) -> None:
    content = spooled(tmp_path, [data(0, b"x"), Piece(PieceKind.HOLE, 1, (1 << 62) - 1)])
    assert content.file.stat().st_blocks * 512 <= 1 << 16
    assert content.size == 1 << 62 and content.recovered_bytes == 1


def test_the_file_systems_map_says_where_a_missing_page_lies() -> None:
    extents = [
        Extent(0, 1 << 20, 2 * PAGE, 0),
        Extent(2 * PAGE, 9 << 20, PAGE, 0x800),
        Extent(3 * PAGE, 5 << 20, PAGE, 1),
    ]
    missing = [MissingRange(PAGE, 3 * PAGE, "absent")]
    assert list(on_disk(missing, extents)) == [
        DiskRange(PAGE, PAGE, (1 << 20) + PAGE),
        DiskRange(3 * PAGE, PAGE, 5 << 20),
    ]


def test_what_a_disk_holds_is_not_missing_any_more(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(512) + b"b" * PAGE)
    known = Disk.parse(f"/srv={disk}@512")

    def fill(missing: MissingRange) -> tuple[list[DiskRange], list[tuple[int, bytes]]]:
        wanted = DiskRange(missing.offset, missing.size, 0)
        return [wanted], [(wanted.offset, known.read(wanted))]

    content = spool(PIECES, tmp_path, fill)
    assert content.complete and content.file.read_bytes()[2 * PAGE : 3 * PAGE] == b"b" * PAGE


@pytest.mark.parametrize("text", ["", "/srv", "srv=/dev/null", "/srv=/nowhere", "/srv=x@y"])
def test_a_disk_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        Disk.parse(text)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=6))
def test_what_is_left_of_a_missing_range(ranges: list[tuple[int, int]]) -> None:
    known, at = [], 0
    for gap, size in ranges:
        known.append((at + gap, size))
        at += gap + size
    left = without_ranges(MissingRange(0, at + 10, "absent"), known)
    bytes_left = {byte for item in left for byte in range(item.offset, item.offset + item.size)}
    bytes_known = {byte for offset, size in known for byte in range(offset, offset + size)}
    assert bytes_left == set(range(at + 10)) - bytes_known


def test_files_of_a_guest_are_recovered_to_the_byte(lab: Lab, generation: str, tmp_path: Path) -> None:
    """The modules that the guest loaded are files of its root; the package has the same bytes."""
    sample = lab.sample(generation)
    kernel = lab.session(generation).bridge.kernel
    out = tmp_path / "out"
    with open_session(sample.dump, lab.store.root) as session:
        summary = recover(session, out, Selection(("/usr/lib/modules/*.ko", "/etc/*")))
    assert summary.errors == 0 and summary.complete == summary.files > 3
    compared = 0
    for path in (out / "files" / "usr" / "lib" / "modules").glob("*.ko"):
        trusted = trusted_modules.read(kernel.folder, path.stem)
        if trusted is not None:
            assert path.read_bytes() == bytes(trusted), path.name
            compared += 1
    assert compared > (5 if generation in RICH else 0)
    with (out / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            stored = (out / row["stored_as"]).read_bytes()
            assert row["sha256"] == hashlib.sha256(stored).hexdigest()
            assert int(row["size"]) == len(stored)
    assert (out / "manifest.parquet").is_file()


def test_an_interrupted_recovery_goes_on(lab: Lab, tmp_path: Path) -> None:
    sample, out = lab.sample("6.12"), tmp_path / "out"
    with open_session(sample.dump, lab.store.root) as session:
        whole = recover(session, tmp_path / "whole", Selection(("/etc/*",)))
        recover(session, out, Selection(("/etc/passwd",)))
        lines = [
            row for row in (tmp_path / "whole" / "manifest.csv").read_text().splitlines() if "passwd" in row
        ]
        assert lines
        (out / "manifest.csv").unlink()
        summary = recover(session, out, Selection(("/etc/*",)))
    assert summary.files == whole.files


def test_the_command_says_what_it_did(lab: Lab, tmp_path: Path) -> None:
    sample = lab.sample("6.12")
    command: list[str | Path] = [sys.executable, "-m", "hybridbridge_vol", "recover", sample.dump]
    done = subprocess.run(
        [*command, "--store", lab.store.root, "--out", tmp_path / "etc.tar", "--path", "/etc/*"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 files, 3 complete" in done.stdout
    with tarfile.open(tmp_path / "etc.tar") as archive:
        assert "files/etc/passwd" in archive.getnames()


def recovered(lab: Lab, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """What the command does with the files below /etc of a sample."""
    command: list[str | Path] = [sys.executable, "-m", "hybridbridge_vol", "recover", lab.sample("6.12").dump]
    command += ["--store", lab.store.root, "--out", out, "--path", "/etc/*", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_in_the_sandbox_it_stores_the_same_in_a_folder_of_its_own(lab: Lab, tmp_path: Path) -> None:
    for out, more in ((tmp_path / "free", ()), (tmp_path / "confined", ("--sandbox",))):
        done = recovered(lab, out, *more)
        assert (done.returncode, done.stderr) == (0, "")
    assert (
        subprocess.run(["diff", "-r", tmp_path / "free", tmp_path / "confined"], check=False).returncode == 0
    )
    passwd = Path("files/etc/passwd")
    stats = [(tmp_path / name / passwd).stat() for name in ("free", "confined")]
    assert stats[0].st_mtime == stats[1].st_mtime
    assert [stat.st_mode & 0o777 for stat in stats] == [0o600, 0o600]


def test_the_sandbox_takes_no_archive_and_no_network(lab: Lab, tmp_path: Path) -> None:
    for out, more, reason in (
        (tmp_path / "etc.tar", ("--sandbox",), "a folder of its own"),
        (tmp_path / "etc", ("--sandbox", "--fetch"), "needs the network"),
    ):
        done = recovered(lab, out, *more)
        assert done.returncode == 1 and reason in done.stderr
        assert not out.exists()
