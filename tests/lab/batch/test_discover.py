"""Which files a batch is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch.dataset import image_id
from hybridbridge_vol.lab.batch.discover import Candidate, discover


def test_directories_are_searched_and_files_given_by_name_are_marked(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for path in (deep / "x.raw", tmp_path / "y"):
        path.write_bytes(b"")
    assert discover([str(tmp_path), str(tmp_path / "y"), "/nowhere/z"]) == [
        Candidate("/nowhere/z", True), Candidate(str(deep / "x.raw"), False),
        Candidate(str(tmp_path / "y"), True),
    ]  # fmt: skip


def test_paths_in_a_list_are_relative_to_the_list(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# web servers\n\nweb 1.raw\n/evidence/db.lime\r\n")
    assert [found.path for found in discover([f"@{tmp_path / 'hosts'}"])] == [
        "/evidence/db.lime",
        str(tmp_path / "web 1.raw"),
    ]


def test_a_list_that_is_an_image_or_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dump.raw").write_bytes(bytes(100))
    with pytest.raises(BatchError, match="not a list"):
        discover([f"@{tmp_path / 'dump.raw'}"])
    with pytest.raises(BatchError, match="cannot be read"):
        discover([f"@{tmp_path / 'none'}"])


def test_the_dataset_and_the_store_are_not_searched(tmp_path: Path) -> None:
    for folder in ("out", "store", "case"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "memory").write_bytes(b"")
    found = discover([str(tmp_path)], left_out=(tmp_path / "out", tmp_path / "store"))
    assert [one.path for one in found] == [str(tmp_path / "case" / "memory")]


def test_link_loops_and_pipes_are_ignored(tmp_path: Path) -> None:
    import os

    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert discover([str(tmp_path)]) == []


def test_an_id_is_readable_and_unique_to_the_path() -> None:
    assert image_id("/cases/web01/dump.raw").startswith("web01-")
    assert image_id("/cases/web01.lime").startswith("web01-")
    assert image_id("/a/x.raw") != image_id("/b/x.raw")
    assert image_id("/a/../a/x.raw") == image_id("/a/x.raw")
    assert "/" not in image_id("/a/\udcff='x'\n.raw") and "=" not in image_id("/a/\udcff='x'\n.raw")
