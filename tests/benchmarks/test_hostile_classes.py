"""Why a row of a mutant changed (benchmarks/hostile): the first class that holds; none is a failure."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from small_snapshot import SmallSnapshot

from benchmarks.hostile.campaign import (
    AT_OPENING,
    ELSEWHERE,
    NOT_READ,
    ON_THE_WAY,
    SHOWN,
    class_of,
    judge,
)
from benchmarks.hostile.commands import may_end_with
from benchmarks.hostile.mutants import Change, Mutant
from benchmarks.hostile.places import KnownRow, Places
from benchmarks.hostile.reads import noted_reads
from benchmarks.hostile.trial import Outcome

ROW = KnownRow("1 init", ((0x1000, 4),), ("/proc/1/stat",))


def words(*offsets: int) -> array[int]:
    return array("I", sorted(offset // 8 for offset in offsets))


PLACES = Places(
    rows={"ps": [ROW], "lsmod": []},
    read_for={"/proc/1/stat": words(0x1000, 0x2000), "/proc/2/stat": words(0x3000)},
    read_by={"ps": words(0x1000, 0x2000, 0x3000), "lsmod": words(0x4000)},
    opening=words(0x5000),
)


def mutant(*changes: tuple[int, int]) -> Mutant:
    return Mutant("a bit", tuple(Change(offset, bytes(size)) for offset, size in changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([(0x1003, 1)], SHOWN),
        ([(0x1004, 1)], ON_THE_WAY),  # the same word
        ([(0x2007, 1)], ON_THE_WAY),
        ([(0x2008, 8)], NOT_READ),
        ([(0x1FF0, 16)], NOT_READ),
        ([(0x1000, 0x2000)], SHOWN),
        ([(0x5000, 8), (0x3000, 8)], AT_OPENING),
        ([(0x3000, 8)], ELSEWHERE),
        ([(0x4004, 4)], ELSEWHERE),  # another tool's calls
        ([(0x6000, 8)], NOT_READ),
    ],
)
def test_a_row_changed_by_what_became_of_the_changed_bytes(
    changes: list[tuple[int, int]], expected: str
) -> None:
    assert class_of(ROW, "ps", mutant(*changes), PLACES) == expected


def outcome(*rows: str) -> Outcome:
    result = {"status": "complete", "limit": "", "rows": list(rows), "seconds": 0.0, "trusted": 0}
    return Outcome(results={"ps": result})


def test_a_row_that_changed_though_nothing_read_the_change_is_a_failure() -> None:
    verdict = judge(mutant((0x6000, 8)), outcome("2 other"), PLACES, {"ps": ["1 init"]}, slow=False)
    assert verdict.changed == {NOT_READ: 1}
    (failure,) = verdict.failures
    assert "1 init" in failure


def test_rows_that_are_the_same_or_move_by_themselves_are_no_change() -> None:
    same = judge(mutant((0x6000, 8)), outcome("1 init"), PLACES, {"ps": ["1 init"]}, slow=False)
    assert (same.failures, same.rows, same.changed) == ((), 1, {})
    moves = judge(mutant((0x6000, 8)), outcome("2 other"), PLACES, {"ps": ["another"]}, slow=False)
    assert (moves.failures, moves.rows, moves.changed) == ((), 0, {})


def test_what_python_reads_of_an_image_is_noted(tmp_path: Path) -> None:
    small = SmallSnapshot(tmp_path / "image")
    with noted_reads() as reads:
        small.image.read_available(0x1004, 8)
        small.image.table_entry(0x3008)
    small.close()
    assert {0x1000 // 8, 0x1008 // 8} <= reads.by_python
    assert 0x3008 // 8 in reads.by_python
    assert 0x2000 // 8 not in reads.by_python


@pytest.mark.parametrize(
    ("command", "status", "expected"),
    [("run", 1, True), ("run", 3, True), ("run", 2, False), ("exec", 47, True), ("exec", 139, False)],
)
def test_a_command_ends_with_a_status_of_its_own_or_of_its_program(
    command: str, status: int, expected: bool
) -> None:
    assert may_end_with(status, command) == expected
    assert not may_end_with(-11, command)
