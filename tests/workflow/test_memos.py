"""Memos of stored kernels: summarised, exported, merged and removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from generations import Lab
from store_copies import copy_without_memos

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.errors import MemoError
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow import memos


@pytest.fixture
def store(lab: Lab, tmp_path: Path) -> Store:
    """Two real kernels, nothing proven about either."""
    made = Store(tmp_path / "store")
    for kernel in map(lab.kernel, ("6.1 two CPUs", "6.12")):
        copy_without_memos(kernel, made)
    assert len(made.kernels()) == 2
    return made


def prove(store: Store, name: str, start: int, end: int, levels: int = 4) -> None:
    """Add a range of code to a kernel's memo."""
    kernel = store.find(name)
    memo = Memo(memo_key(kernel, levels))
    memo.text.add([(start, end)])
    assert memo_file.save(kernel.folder, memo)


def code_bytes(store: Store) -> dict[str, int]:
    return {entry.kernel: entry.code_bytes for entry in memos.summarise(store, None)}


def test_an_exported_memo_is_merged_where_its_kernel_is_stored(store: Store, tmp_path: Path) -> None:
    prove(store, "6.1.", 0, 100)
    exported = tmp_path / "lab.memo"
    name = memos.export_memo(store, exported, None)
    assert name.startswith("6.1.")
    assert memos.clear(store, name) == [name]
    prove(store, "6.1.", 200, 250)
    assert memos.import_memo(store, exported) == name
    assert code_bytes(store)[name] == 150


def test_of_a_kernel_with_two_memos_the_larger_one_is_exported(store: Store, tmp_path: Path) -> None:
    prove(store, "6.1.", 0, 100)
    prove(store, "6.1.", 0, 300, levels=5)
    assert [entry.code_bytes for entry in memos.summarise(store, "6.1.")] == [100, 300]
    memos.export_memo(store, tmp_path / "lab.memo", None)
    assert len(memo_file.parse((tmp_path / "lab.memo").read_bytes(), "lab")) == 300


def test_an_export_that_is_not_clear_names_the_way_out(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MemoError, match="no memo to export: run a tool, or 'hb train DUMP'"):
        memos.export_memo(store, tmp_path / "lab.memo", None)
    prove(store, "6.1.", 0, 100)
    prove(store, "6.12.", 0, 100)
    with pytest.raises(MemoError, match="2 kernels have a memo: choose one with --kernel"):
        memos.export_memo(store, tmp_path / "lab.memo", None)
    assert not (tmp_path / "lab.memo").exists()


def test_a_memo_of_a_kernel_that_is_not_stored_is_refused(store: Store, tmp_path: Path) -> None:
    prove(store, "6.12.", 0, 100)
    memos.export_memo(store, tmp_path / "lab.memo", None)
    store.remove(store.find("6.12.").name)
    with pytest.raises(MemoError, match=r"kernel 6\.12\..* is not stored; 'hb trust add' it first"):
        memos.import_memo(store, tmp_path / "lab.memo")


def test_a_damaged_memo_is_listed_with_its_problem(store: Store) -> None:
    prove(store, "6.1.", 0, 100)
    kernel = store.find("6.1.")
    memo_file.memo_path(kernel.folder, memo_key(kernel)).write_bytes(b"hybridbridge memo\n00000000\n{}\n")
    (entry,) = memos.summarise(store, "6.1.")
    assert (entry.code_bytes, "corrupt" in entry.problem) == (0, True)
    assert memos.clear(store, None) == [kernel.name]
