"""What a search notes of itself: a file from which it goes on, and no other file is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.tools.physical_memory.search_journal import SearchJournal

SEARCH = ("image", 1 << 20, 17, "rules")


def journal(path: Path, search: tuple[str | int, ...] = SEARCH, batches: int = 3) -> SearchJournal:
    return SearchJournal(str(path), search, batches)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A journal with two of three batches."""
    path = tmp_path / "journal"
    with journal(path) as first:
        assert first.done == {}
        first.add(0, [["a", 1]])
        first.add(2, "nothing")
    return path


def test_what_was_found_is_there_again(begun: Path) -> None:
    with journal(begun) as again:
        assert again.done == {0: [["a", 1]], 2: "nothing"}
        again.add(1, [])
    with journal(begun) as whole:
        assert whole.done == {0: [["a", 1]], 1: [], 2: "nothing"}


def test_wherever_it_was_cut_the_whole_lines_count_and_it_goes_on(begun: Path) -> None:
    data = begun.read_bytes()
    first = data.index(b"\n") + 1
    second = data.index(b"\n", first) + 1
    for size in range(len(data)):
        begun.write_bytes(data[:size])
        with journal(begun) as again:
            assert set(again.done) == ({0} if size >= second else set())
            again.add(2, "nothing")
        with journal(begun) as again:
            assert again.done[2] == "nothing"


@pytest.mark.parametrize("other", [("image", 1 << 20, 18, "rules"), ("image",)])
def test_that_of_another_search_is_refused_and_stays(begun: Path, other: tuple[str | int, ...]) -> None:
    data = begun.read_bytes()
    with pytest.raises(OptionError, match="of another search"):
        journal(begun, other)
    with pytest.raises(OptionError, match="of another search"):
        journal(begun, batches=4)
    assert begun.read_bytes() == data


@pytest.mark.parametrize("data", [b"evidence", b"evidence\n", bytes(1 << 20), b'{"form": "hyb'[::-1]])
def test_a_file_that_is_none_is_refused_and_stays(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(OptionError, match="not a file of a search"):
        journal(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"{}", b'{"batch": 3, "found": []}', b'{"batch": -1, "found": []}', b'{"batch": 1}']
)
def test_a_damaged_line_is_reported(begun: Path, line: bytes) -> None:
    data = begun.read_bytes() + line + b"\n"
    begun.write_bytes(data)
    with pytest.raises(OptionError, match="damaged behind byte"):
        journal(begun)
    assert begun.read_bytes() == data


def test_two_searches_cannot_write_it_at_once(begun: Path) -> None:
    with journal(begun), pytest.raises(OptionError, match="another search is writing it"):
        journal(begun)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="No such file or directory"):
        journal(tmp_path / "missing" / "journal")
