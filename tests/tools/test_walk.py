"""Walking a tree: the bounds of what is followed, on this machine's own files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from live_files import LiveFiles

from hybridbridge_vol.tools.file_system import walk as walking
from hybridbridge_vol.tools.file_system.walk import Entry, walk


def walked(top: Path) -> tuple[set[str], list[str]]:
    """The paths below a folder, and why others are not there."""
    entries: list[Entry] = list(walk(LiveFiles({}), str(top)))
    paths = {entry.path for entry in entries if entry.error is None}
    return paths, [entry.error.reason for entry in entries if entry.error is not None]


def test_every_entry_is_met_once_whatever_its_name(tmp_path: Path) -> None:
    names = [b"a", b"\xff\n", bytes(byte for byte in range(1, 255) if byte != ord("/")), b"x" * 255]
    for name in names:
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "inside").touch()
    paths, errors = walked(tmp_path)
    assert len(paths) == 1 + 2 * len(names) and errors == []
    assert {os.fsencode(path.split("/")[-1]) for path in paths} >= set(names)


def test_a_tree_of_too_many_entries_is_cut_in_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(walking, "MAX_ENTRIES", 7)
    paths, errors = walked(tmp_path)
    assert len(paths) == 1 + 7
    assert errors == [f"{tmp_path}: more than 7 entries"]


def test_a_tree_that_is_too_deep_is_cut_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1" / "2" / "3" / "4").mkdir(parents=True)
    monkeypatch.setattr(walking, "MAX_DEPTH", 3)
    paths, errors = walked(tmp_path)
    assert str(tmp_path / "1/2/3") in paths and str(tmp_path / "1/2/3/4") not in paths
    assert errors == [f"{tmp_path}/1/2/3: 3 directories below each other"]
