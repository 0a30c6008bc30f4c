"""The store of trusted kernels: entries are whole or absent, checked, and safe under two writers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import KernelFileError, StoreError
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.store import Store

Lab = Any


def test_a_manifest_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    path.write_bytes(files.manifest({"format": files.FORMAT, "n": 1 << 63}))
    assert files.read_manifest(path)["n"] == 1 << 63


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_manifest_is_noticed(place: int, flip: int) -> None:
    stored = bytearray(files.manifest({"format": files.FORMAT, "release": "6.1", "text": 0xFFFFFFFF81000000}))
    stored[place % len(stored)] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.json"
        path.write_bytes(stored)
        try:
            record = files.read_manifest(path)
        except StoreError as error:
            assert str(path) in str(error)
        else:
            assert record["text"] == 0xFFFFFFFF81000000


def test_sparse_files_keep_what_was_written(tmp_path: Path) -> None:
    data = bytearray(40 * files.BLOCK)
    data[3 * files.BLOCK + 5] = 1
    data[4 * files.BLOCK] = 2
    data[-1] = 3
    extents = files.write_sparse(tmp_path / "memory", memoryview(data))
    assert (tmp_path / "memory").read_bytes() == bytes(data)
    assert extents == [(3 * files.BLOCK, 2 * files.BLOCK), (39 * files.BLOCK, files.BLOCK)]
    with open(tmp_path / "memory", "rb") as stream:
        assert files.checksum_file(stream.fileno(), extents) == files.checksum(memoryview(data), extents)


def test_an_empty_or_absent_store_has_no_kernels(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").entries() == []
    with pytest.raises(StoreError, match="no stored kernel"):
        Store(tmp_path).find("6.1")


def test_a_store_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file").entries()


def test_a_file_that_is_not_a_kernel_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    store = Store(tmp_path / "store")
    with pytest.raises(KernelFileError):
        store.add(tmp_path / "junk")
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())


def test_two_writers_of_one_kernel_both_succeed_and_leave_one_entry(lab: Lab, tmp_path: Path) -> None:
    package = lab.sample("6.1 two CPUs").kernel_package
    command = [
        sys.executable,
        "-m",
        "hybridbridge_vol",
        "trust",
        "add",
        str(package),
        "--store",
        str(tmp_path),
    ]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        _out, err = writer.communicate(timeout=120)
        assert (writer.returncode, err) == (0, b"")
    (entry,) = Store(tmp_path).entries()
    assert Store(tmp_path).show(entry.name).release == entry.release
    assert [path.name for path in tmp_path.iterdir()] == [entry.name]


def test_a_second_boot_stays_out_of_a_given_range(lab: Lab) -> None:
    kernel = lab.kernel("6.1 two CPUs")
    first = kernel.boots()[0]
    start = kernel.text_link_vaddr + first.layout.kernel_delta
    size = kernel.end_link_vaddr - kernel.text_link_vaddr
    second = kernel.boot_clear_of(start, start + size)
    assert second.folder != first.folder
    again = kernel.boot_clear_of(start, start + size)
    assert again.folder == second.folder


def test_a_kernel_that_is_being_removed_hides_no_other(lab: Lab) -> None:
    """A reader that saw an entry which is gone a moment later had answered that the store is empty."""
    root = lab.store.root
    lab.kernel("6.1 two CPUs")
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            (root / "comes-and-goes").mkdir()
            (root / "comes-and-goes").rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert all(Store(root).kernels() for _ in range(300))
    finally:
        ended.set()
        other.join()
