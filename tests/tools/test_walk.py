"""Walking a tree: the bounds of what is followed, on this machine's own files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from live_files import LiveFiles

from hybridbridge_vol.guest.file_attributes import FileAttributes
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


class _Bound(LiveFiles):
    """As if the folder `what` were mounted on each of `where` (mount --bind)."""

    def __init__(self, what: Path, where: list[Path]) -> None:
        super().__init__({})
        self._what, self._where = str(what), [str(path) for path in where]

    def _real(self, path: str) -> str:
        for place in self._where:
            while path == place or path.startswith(f"{place}/"):
                path = self._what + path[len(place) :]
        return path

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        return super().attributes(self._real(path), follow)

    def listdir(self, path: str) -> list[str]:
        return super().listdir(self._real(path))


def _bound(top: Path, what: Path, where: list[Path]) -> tuple[set[str], list[str]]:
    for path in where:
        path.mkdir(parents=True, exist_ok=True)
    entries = list(walk(_Bound(what, where), str(top)))
    paths = {entry.path for entry in entries if entry.error is None}
    return paths, [entry.error.reason for entry in entries if entry.error is not None]


def test_a_folder_that_is_mounted_again_is_listed_in_both_places(tmp_path: Path) -> None:
    (tmp_path / "srv/data/below").mkdir(parents=True)
    (tmp_path / "srv/data/below/file").touch()
    paths, errors = _bound(tmp_path, tmp_path / "srv/data", [tmp_path / "www/data"])
    assert errors == []
    assert {str(tmp_path / "srv/data/below/file"), str(tmp_path / "www/data/below/file")} <= paths


def test_a_folder_that_is_mounted_below_itself_is_listed_once_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").touch()
    paths, errors = _bound(tmp_path, tmp_path / "a", [tmp_path / "a/again"])
    assert str(tmp_path / "a/file") in paths and str(tmp_path / "a/again/file") not in paths
    assert errors == [
        f"{tmp_path}/a/again: the directory is the one at {tmp_path}/a, and is not listed again"
    ]


def test_a_folder_that_is_mounted_very_often_is_listed_a_bounded_number_of_times(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    places = [tmp_path / f"place{number:02}" for number in range(walking.MAX_LISTINGS + 3)]
    _paths, errors = _bound(tmp_path, tmp_path / "a", places)
    assert len(errors) == len(places) + 1 - walking.MAX_LISTINGS
