"""Whatever ends a writer, a reader finds what was there before or what is new, and never a part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faults import killed_at_each_line, read_only, with_a_full_disk

from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.memo_file import load, save
from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.assembly import unexamined
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.files import new_folder, read_manifest, write_atomically, write_sparse

FILES, MEMO, DATASET = (
    "hybridbridge_vol.trust.files", "hybridbridge_vol.bridge.memo_file", "hybridbridge_vol.lab.batch.dataset"
)  # fmt: skip
KEY = MemoKey("abcdef", "policy", "6.1.0-test")
OLD, NEW = [(16, 32)], [(16, 32), (64, 80)]
SIZES = (0, 1, 100, 4096, 65536, 70000)


def memo_of(ranges: list[tuple[int, int]]) -> Memo:
    memo = Memo(KEY)
    memo.text.add(ranges, ())
    return memo


def large_memo() -> Memo:
    return memo_of([(16 * number, 16 * number + 8) for number in range(40_000)])


def test_a_killed_writer_of_a_memo_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    for number in killed_at_each_line(lambda: save(tmp_path, memo_of(NEW)), (MEMO, FILES)):
        ranges = list(load(tmp_path, KEY).text.ranges())
        assert ranges in ([], NEW), number
        seen.add(len(ranges))
    assert list(load(tmp_path, KEY).text.ranges()) == NEW
    assert seen == {0, 2}  # it was killed before and after
    assert save(tmp_path, memo_of([(96, 97)]))  # and no lock is left


@pytest.mark.parametrize("size", SIZES)
def test_on_a_full_disk_the_old_memo_stays(tmp_path: Path, size: int) -> None:
    assert save(tmp_path, memo_of(OLD))
    assert with_a_full_disk(lambda: _check(not save(tmp_path, large_memo())), size) == 0
    assert list(load(tmp_path, KEY).text.ranges()) == OLD
    assert not list(tmp_path.glob(".new-*"))


def test_in_a_store_that_cannot_be_written_nothing_is_lost_but_the_memo(tmp_path: Path) -> None:
    assert read_only(lambda: _check(not save(tmp_path, memo_of(OLD)))) == 0
    assert list(tmp_path.iterdir()) == []


def _check(holds: bool) -> None:
    assert holds


def entry(final: Path) -> None:
    """What adding a kernel does: files, memory with holes, and the manifest last."""
    with new_folder(final) as folder:
        (folder / "symbols").write_bytes(b"symbols" * 1000)
        extents = write_sparse(folder / "memory", memoryview(bytes(files.BLOCK) + b"x" * files.BLOCK))
        record = {"format": files.FORMAT, "extents": extents}
        (folder / "kernel.json").write_bytes(files.manifest(record))


def whole(final: Path) -> bool:
    return (
        read_manifest(final / "kernel.json")["extents"] == [[files.BLOCK, files.BLOCK]]
        and (final / "symbols").stat().st_size == 7000
        and (final / "memory").read_bytes() == bytes(files.BLOCK) + b"x" * files.BLOCK
    )


def test_a_killed_writer_of_the_store_leaves_no_entry_or_a_whole_one(tmp_path: Path) -> None:
    before = after = 0
    for number in killed_at_each_line(lambda: entry(tmp_path / "kernel"), (FILES, __name__)):
        if (tmp_path / "kernel").exists():
            assert whole(tmp_path / "kernel"), number
            after += 1
        else:
            before += 1
    assert before > 10 and after


@pytest.mark.parametrize("size", SIZES)
def test_on_a_full_disk_no_entry_is_left(tmp_path: Path, size: int) -> None:
    assert with_a_full_disk(lambda: entry(tmp_path / "kernel"), size) == 1  # StoreError
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    def write() -> None:
        with pytest.raises(StoreError, match=f"{tmp_path}.*cannot be written"):
            entry(tmp_path / "kernel")

    assert read_only(write) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_atomically, dataset.write_durably])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_the_old_one_or_the_new_one(
    tmp_path: Path, write: Callable[[Path, bytes], None], size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert with_a_full_disk(lambda: write(path, b"new" * 30_000), size) == 2  # OSError
    assert path.read_bytes() == b"old" and [item.name for item in tmp_path.iterdir()] == ["file"]
    seen = set()
    for _number in killed_at_each_line(lambda: write(path, b"new" * 30_000), (FILES, DATASET)):
        seen.add(path.read_bytes())
        path.write_bytes(b"old")
    assert seen <= {b"old", b"new" * 30_000} and len(seen) == 2


def test_a_killed_commit_leaves_an_image_that_is_done_with_all_its_tables_or_not_done(tmp_path: Path) -> None:
    out, staging = tmp_path / "out", tmp_path / "staging"
    staging.mkdir()
    tables = {tool: staging / f"{tool}.parquet" for tool in ("ps", "lsmod")}
    record = unexamined(Request("image", "/evidence/dump", str(staging)), "no reason").record
    done = set()

    def commit() -> None:
        dataset.commit(out, record, tables)

    def fill() -> None:
        for tool, path in tables.items():
            path.write_bytes(tool.encode())

    fill()
    for _line in killed_at_each_line(commit, (DATASET,)):  # what an earlier one left is replaced
        found = dataset.read_record(out, "image")
        done.add(found is not None)
        if found is not None:
            for tool in tables:
                assert dataset.table_path(out, tool, "image", "parquet").read_bytes() == tool.encode()
        fill()
    assert done == {True, False}
