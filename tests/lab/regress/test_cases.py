"""Files of cases, and what differs between two answers: alone, without images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.cli.regress import parse_run
from hybridbridge_vol.errors import CasesError
from hybridbridge_vol.lab.regress.cases import Case, read_cases
from hybridbridge_vol.lab.regress.golden import MOVES, Answer, canonical, differences, load
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Row

CASE = '[[case]]\nname = "one"\nimage = "a.raw"\nrun = ["ps --tree", "netstat -tln"]\n'


def cases(tmp_path: Path, text: str) -> list[Case]:
    path = tmp_path / "cases.toml"
    path.write_text(text)
    return read_cases(path, parse_run)


def test_a_case_is_an_image_and_what_is_asked_of_it(tmp_path: Path) -> None:
    (case,) = cases(
        tmp_path, 'store = "trust"\n[moving]\nps = ["TIME"]\n' + CASE + 'moving = {ps = ["%CPU"]}\n'
    )
    assert (case.name, case.image, case.store) == ("one", tmp_path / "a.raw", tmp_path / "trust")
    assert [run.file for run in case.runs] == ["ps_--tree.json", "netstat_-tln.json"]
    assert case.runs[0].options["tree"]
    assert case.runs[1].options["listening"]
    assert case.moving["ps"] == {"TIME", "%CPU"}
    assert case.golden(case.runs[0]) == tmp_path / "golden" / "one" / "ps_--tree.json"


def test_a_run_may_be_of_one_of_several_kernels(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, CASE.replace("ps --tree", "ps --kernel-at 0x1000000 --root-of 7"))
    assert [(run.kernel_at, run.root_of) for run in case.runs] == [(0x1000000, 7), (None, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [[case]]"),
        ("case = 1", "case must be tables, each begun with [[case]]"),
        ("[[case]]\nname = ''", "needs a name"),
        ('[[case]]\nname = "../x"\nimage = "a"\nrun = ["ps"]', "needs a name"),
        (CASE + CASE, "two cases are named 'one'"),
        (CASE.replace("ps --tree", "psx"), "'psx': "),
        (CASE.replace("ps --tree", "ps --treee"), "--treee"),
        (CASE.replace("ps --tree", "ps --format json"), "--format is not for a recorded run"),
        (CASE.replace("ps --tree", "ps --fetch"), "--fetch is not for a recorded run"),
        (CASE.replace("ps --tree", "ps --max-seconds 1"), "--max-seconds is not for a recorded run"),
        (CASE.replace("ps --tree", "ps --kernel-at here"), "not a number"),
        (CASE.replace("ps --tree", "cat"), "'cat'"),
        (CASE.replace("ps --tree", "ps '"), "No closing quotation"),
        (CASE.replace('"ps --tree", "netstat -tln"', ""), "names no tool"),
        (CASE.replace("netstat -tln", "ps  --tree"), "the same twice"),
        (CASE + 'make = ["x"]', "either 'image' or 'make'"),
        (CASE + "sored = 1", "unknown key 'sored'"),
        (CASE + "unordered = 1", "unordered must be a list of tools"),
        (CASE + "unordered = [1]", "unordered must be a list of tools"),
        (CASE.replace('["ps', "1 # "), "run must be a list of texts"),
        (CASE.replace('"a.raw"', "7"), "image must be a path"),
        (CASE + 'unordered = ["pss"]', "unordered: no tool is named 'pss'"),
        (CASE + 'moving = {pss = ["PID"]}', "moving: no tool is named 'pss'"),
        (CASE + 'without = {pss = {CMD = "x"}}', "without: no tool is named 'pss'"),
        (CASE + 'without = {ps = {CMD = "("}}', "without: not a regular expression"),
        (CASE + "without = {ps = 1}", "patterns by tool and column"),
        (CASE + "moving = {ps = 1}", "moving must be columns by tool"),
        ("stores = 1\n" + CASE, "unknown key 'stores'"),
        ("store = 1\n" + CASE, "store must be a path"),
        ("[[case", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CasesError) as error:
        cases(tmp_path, text)
    assert message in str(error.value)
    assert str(tmp_path / "cases.toml") in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.text()
    | st.builds("[[case]]\nname = {!r}\nimage = {!r}\nrun = [{!r}]".format, st.text(), st.text(), st.text())
)
def test_any_text_is_cases_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert read_cases(path, parse_run)
    except CasesError as error:
        assert str(path) in str(error)


def test_a_missing_image_and_one_that_cannot_be_made_are_errors(tmp_path: Path) -> None:
    (missing,) = cases(tmp_path, CASE)
    with pytest.raises(CasesError, match=r"case 'one': there is no image .*a\.raw"):
        missing.found_image()
    for command in ('["/nonexistent"]', '["false"]', '["echo", "nowhere"]', '["true"]'):
        (failing,) = cases(tmp_path, CASE.replace('image = "a.raw"', f"make = {command}"))
        with pytest.raises(CasesError, match="case 'one'"):
            failing.found_image()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "dump.raw").touch()
    (made,) = cases(
        tmp_path, CASE.replace('image = "a.raw"', 'make = ["sh", "-c", "echo working; echo made"]')
    )
    assert made.found_image() == tmp_path / "made" / "dump.raw"


COLUMNS = (Column("PID", "int", ""), Column("CMD", "str", ""), Column("TIME", "duration", ""))


def answer(tmp_path: Path, more: str, *rows: Row) -> Answer:
    (case,) = cases(tmp_path, CASE + more)
    return canonical(case, case.runs[0], COLUMNS, rows)


def test_moving_columns_are_masked_and_excluded_rows_are_absent(tmp_path: Path) -> None:
    rows = (Row((1, "init", 2.0)), Row((2, "[kworker/0]", 3.0)), Row((3, None, Unavailable("gone")), depth=1))
    found = answer(tmp_path, 'moving = {ps = ["TIME"]}\nwithout = {ps = {CMD = "^.kworker"}}', *rows)
    assert found.rows == (
        {"PID": 1, "CMD": "init", "TIME": MOVES},
        {"PID": 3, "CMD": None, "TIME": None, "depth": 1, "unreadable": {"TIME": "gone"}},
    )


def test_unordered_rows_are_the_same_in_any_order(tmp_path: Path) -> None:
    rows = [Row((1, "a", 1.0)), Row((2, "b", 1.0))]
    there, back = (answer(tmp_path, 'unordered = ["ps"]', *some) for some in (rows, rows[::-1]))
    assert there == back
    assert answer(tmp_path, "", *rows) != answer(tmp_path, "", *rows[::-1])


def test_a_column_that_the_tool_does_not_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match="ps has no column 'PIDD'"):
        answer(tmp_path, 'moving = {ps = ["PIDD"]}', Row((1, "a", 1.0)))


def test_a_difference_names_the_row_and_the_fields() -> None:
    def rows(*values: tuple[int, str]) -> Answer:
        return Answer(("PID", "CMD"), tuple({"PID": pid, "CMD": cmd} for pid, cmd in values))

    was = rows((1, "init"), (2, "sshd"), (3, "cron -f"))
    assert differences(was, was) == []
    assert differences(was, rows((1, "init"), (2, "sshd\x1b[2J x"), (4, "new"))) == [
        '~ PID 2: CMD sshd -> "sshd\\u001b[2J x"', '- PID=3 CMD="cron -f"', "+ PID=4 CMD=new",
    ]  # fmt: skip
    assert differences(was, Answer(("PID",), ()))[0] == "columns: PID, CMD -> PID"
    assert len(differences(Answer(("A",), ()), Answer(("A",), tuple({"A": n} for n in range(500))))) == 101


VALUES: st.SearchStrategy[Any] = st.none() | st.integers() | st.text() | st.floats(allow_nan=False)


@given(*[st.lists(st.fixed_dictionaries({"PID": st.integers(0, 5), "CMD": VALUES}), max_size=8)] * 2)
def test_two_answers_have_no_difference_only_if_they_are_equal(before: list[Any], after: list[Any]) -> None:
    was, now = Answer(("PID", "CMD"), tuple(before)), Answer(("PID", "CMD"), tuple(after))
    lines = differences(was, now)
    same = [json.dumps(row, sort_keys=True) for row in before] == [
        json.dumps(row, sort_keys=True) for row in after
    ]
    assert (lines == []) == same
    assert all("\n" not in line for line in lines)


@given(st.lists(st.fixed_dictionaries({"PID": VALUES}), max_size=5))
def test_a_recorded_answer_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "recorded.json"
    kept = Answer(("PID",), tuple(rows))
    path.write_text(kept.dump())
    assert load(path) == kept


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "[1]", '[{"columns": 1}]', '[{"columns": []}, 1]', "[" * 100000]
)
def test_a_damaged_recording_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "golden.json"
    path.write_text(content)
    with pytest.raises(CasesError, match=r"golden\.json"):
        load(path)
    with pytest.raises(CasesError, match="nothing is recorded"):
        load(tmp_path / "absent.json")


def test_rows_are_identified_by_columns_that_are_compared() -> None:
    def answer(*values: tuple[str, str]) -> Answer:
        return Answer(
            ("PID", "UID", "CMD", "TTY"),
            tuple({"PID": MOVES, "UID": 0, "CMD": cmd, "TTY": tty} for cmd, tty in values),
        )

    was, now = (
        answer(("init", "?"), ("cron", "?"), ("sh", "pts/0")),
        answer(("init", "?"), ("miner", "?"), ("sh", "pts/1")),
    )
    assert differences(was, now) == [
        "- UID=0 CMD=cron TTY=?",
        "~ UID 0 CMD sh: TTY pts/0 -> pts/1",
        "+ UID=0 CMD=miner TTY=?",
    ]


def test_moved_rows_are_shown_at_their_new_place() -> None:
    def answer(*pids: int) -> Answer:
        return Answer(("PID", "CMD"), tuple({"PID": pid, "CMD": "x"} for pid in pids))

    assert differences(answer(1, 2, 3), answer(1, 3, 2)) == ["> PID=3 CMD=x", "> PID=2 CMD=x"]


def test_a_long_and_entirely_different_answer_is_compared_quickly() -> None:
    was, now = (
        Answer(("A", "B"), tuple({"A": MOVES, "B": n // 9 + start} for n in range(20000)))
        for start in (0, 5000)
    )
    began = time.monotonic()
    assert differences(was, now)[-1] == "and 39900 more"
    assert time.monotonic() - began < 10
