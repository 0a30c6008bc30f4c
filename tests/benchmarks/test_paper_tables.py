"""The tables of the paper's tools, out of numbers that are given here."""

from __future__ import annotations

import re

from benchmarks.paper import tables
from benchmarks.paper.fall_backs import Answered, Filling, still_trapping, summary
from benchmarks.paper.figures import PAPER, TOOLS, VIRTUOSO
from benchmarks.results import paragraph
from benchmarks.side_by_side import Counted, Timed

NAMED = {name: f"`{name}`" for name in TOOLS}
HERE = {name: Counted(1, 2, 1_000_000, 40, 2) for name in [*NAMED.values(), "threads"]}
ALONE = {name: Counted(1, 2, 950_000, 0, 2) for name in HERE} | {"`ps`": Counted(1, 2, 100_000, 0, 2)}
TIMES = {
    (name, variant): Timed(seconds, seconds / 2)
    for name in HERE
    for variant, seconds in ((tables.SLOW, 0.1), (tables.FAST, 0.02), (tables.LIMIT, 0.016))
}
FILLING = Filling((1.0, 0.0), (7.0, 0.0), (0.6, 0.05), 0, ())
TRAPPING = Filling((1.0, 0.0), (7.0, 0.0), (0.6, 0.05), 2, ("twin f+0x1",))


def rows(table: list[str]) -> dict[str, list[str]]:
    """The cells of each row by its first one; all rows are as long as the header."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line]
    assert {len(row) for row in cells} == {len(cells[0])}
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_papers_tables_have_all_its_tools() -> None:
    assert len(PAPER) == 15 and set(TOOLS) - set(PAPER) == {"tinyps", "getprocname"}
    assert set(VIRTUOSO) == {"getpid", "gettime", "tinyps", "getprocname"}
    for figures in PAPER.values():
        assert figures.without_memo > figures.with_memo and figures.faster_than_vmst > 1


def test_what_a_tool_does_stands_beside_the_papers_exits() -> None:
    found = rows(tables.counts(NAMED, HERE))
    assert found["`ps`"] == ["1", "2", "1,000,000", "40", "2", "418,124"]
    assert found["`tinyps`"][-1] == "" and len(found) == 17


def test_slow_beside_fast() -> None:
    assert rows(tables.slow_and_fast(NAMED, TIMES))["`uname`"] == ["100", "20.0", "5.00", "5.00", "77.80"]


def test_whole_times_are_compared_with_the_limit_only_where_the_work_is_the_same() -> None:
    alone = {name: counted for name, counted in ALONE.items() if name != "`netstat`"}
    found = rows(tables.limit(NAMED, ["threads"], HERE, alone, TIMES))
    assert found["`uname`"] == ["1,000,000", "950,000", "16.0", "1.25", "10.0", "8.42", "1.19", "1.66"]
    assert found["`ps`"][3] == "" and found["`ps`"][-2] == "0.12"
    assert found["`netstat`"] == ["1,000,000", "", "", "", "10.0", "", "", "7.64"]
    assert found["threads"][-1] == ""


def test_the_tools_of_virtuoso() -> None:
    found = rows(tables.virtuoso(NAMED, HERE, TIMES))
    assert found["`tinyps`"] == ["1,000,000", "140,843", "20.0", "64", "23.45"]


def test_without_a_memo_and_with_a_full_one() -> None:
    found = rows(tables.memo(NAMED, dict.fromkeys(NAMED.values(), FILLING)))
    assert found["`ps`"] == ["0.60", "0.050", "12.0", "10.047", "0.481", "20.9"]
    assert found["`tinyps`"] == ["0.60", "0.050", "12.0", "", "", ""]


def test_traps_from_snapshot_to_snapshot() -> None:
    found = rows(tables.traps({"`ps`": FILLING, "`arp`": TRAPPING}))
    assert found == {
        "opening a session": ["1", "0", ""], "`ps`": ["7", "0", "0"], "`arp`": ["7", "0", "2"],
    }  # fmt: skip
    assert rows(tables.seconds({"`ps`": FILLING})) == {"`ps`": ["0.60", "0.050", "12.0"]}


def test_native_programs() -> None:
    named = {"ps": "`ps`"}
    found = rows(tables.programs(named, HERE, {"`ps`": 765}, TIMES, {"`ps`": FILLING}))
    assert found["`ps`"] == [
        "765", "2", "1,000,000", "100", "20.0", "5.00", "0.60", "0.050", "7", "0", "0",
    ]  # fmt: skip


def test_orders_of_snapshots_are_summed_up_by_place() -> None:
    orders = [
        [Answered(1, 7, 0.5, ("f",)), Answered(0, 0, 0.1, ())],
        [Answered(1, 9, 0.7, ("f",)), Answered(1, 1, 0.2, ("g", "h", "g"))],
        [Answered(2, 8, 0.6, ("f",)), Answered(0, 0, 0.1, ())],
    ]
    found = summary(orders)
    assert found == Filling((1, 0), (8, 0), (0.6, 0.1), 2, ("g", "h"))
    assert still_trapping({"ps": found, "arp": FILLING}) == {"ps": ("g", "h")}


def test_a_paragraph_has_lines_of_a_readable_length_and_the_same_words() -> None:
    text = "a rule-based thing, " * 40
    lines = paragraph(text)
    assert max(map(len, lines)) <= 118 and lines[-1] == ""
    assert re.sub(r"\s+", " ", " ".join(lines)).strip() == text.strip()
