"""A tool ends within its limits, with the rows up to there and one that says which limit was reached."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import allowance, tools
from hybridbridge_vol.allowance import Allowance, taken_memory
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.toolkit import limits
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.render import answer_of, write_json
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool

Lab = Any


def new_memory(size: int) -> mmap.mmap:
    """Memory that this process did not have before, whatever others have let go."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"x" * size)
    return memory


class Endless(Tool):
    """A tool that follows a cyclic list."""

    name = "endless"
    help = "rows without end"
    columns = (Column("NUMBER", "int", "counts"), Column("TEXT", "str", "takes memory"))
    seconds = 0.2

    def __init__(self, size: int = 0) -> None:
        self._size, self.ended = size, False

    def rows(self, kernel: Any, options: Options) -> Iterator[Row]:
        number = 0
        held = []
        try:
            while True:
                if self._size:
                    held.append(new_memory(self._size))
                yield Row((number, ""))
                number += 1
        finally:
            self.ended = True


def reason_of(row: Row) -> str:
    assert all(isinstance(cell, Unavailable) for cell in row.cells)
    (reason,) = {str(cell.reason) for cell in row.cells if isinstance(cell, Unavailable)}
    return reason


def test_a_tool_without_end_is_ended_by_its_processor_time() -> None:
    tool = Endless()
    *rows, last = limited_rows(tool, LiveKernel(), {})
    assert [row.cells[0] for row in rows] == list(range(len(rows))) and len(rows) > 100
    assert reason_of(last) == "the rows end here: the limit of the tool was reached (processor time: 0.2 s)"
    assert tool.ended


def test_a_tool_that_takes_memory_without_end_is_ended_by_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endless, "memory", 64 << 20)
    monkeypatch.setattr(Endless, "seconds", 60.0)
    monkeypatch.setattr(allowance, "_MEMORY_EVERY", 0.001)
    before = taken_memory()
    *rows, last = limited_rows(Endless(64 << 10), LiveKernel(), {})
    assert reason_of(last).endswith("(memory: 64 MiB)")
    assert 300 < len(rows) < 3000
    assert taken_memory() - before < 64 << 20  # and lets it go


def test_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROWS", 70)
    *rows, last = limited_rows(Endless(), LiveKernel(), {})
    assert len(rows) == 70 and reason_of(last).endswith("(70 rows)")


def test_an_answer_within_its_limits_has_no_more_rows_than_the_tool_gives() -> None:
    tool, kernel = tools.load("uname"), LiveKernel()
    assert list(limited_rows(tool, kernel, {})) == list(tool.rows(kernel, {}))
    assert not kernel.allowance.reached


def test_every_front_shows_the_limit_as_a_row_that_could_not_be_read() -> None:
    out = StringIO()
    assert not write_json(answer_of(Endless(), LiveKernel(), {}), out)
    assert '"NUMBER": "the rows end here: the limit of the tool was reached' in out.getvalue()

    class Shown:
        def session(self) -> LiveKernel:
            return LiveKernel()

    method_of = import_module("hybridbridge_vol.api.methods").method_of  # its stub has the tools only
    table = method_of(Endless())(Shown())
    assert not table.complete and len(table.unreadable) == 2


def test_an_answer_is_not_charged_for_the_one_before() -> None:
    kernel = LiveKernel()
    list(limited_rows(Endless(), kernel, {}))
    assert len(list(limited_rows(tools.load("uname"), kernel, {}))) == 1


def test_the_user_may_give_more_or_less() -> None:
    mine = Allowance()
    mine.seconds, mine.memory = 0.001, 1 << 40
    mine.begin(60.0, 1 << 30)
    assert mine.seconds_left(10.0) <= 0.001


def test_when_its_time_is_over_a_tool_ends_with_what_it_has(lab: Lab) -> None:
    """No more calls are made: each process has its row, which says what is missing of it and why."""
    ps = tools.load("ps")
    options = ps.defaults()
    with open_session(lab.sample("6.12").dump, lab.store.root) as session:
        good = [row.cells for row in limited_rows(ps, session, options)]
        session.allowance.seconds = 1e-4
        *rows, last = limited_rows(ps, session, options)
        assert "processor time" in reason_of(last)
        assert len(rows) < len(good)
        session.allowance.seconds = None
        assert [row.cells for row in limited_rows(ps, session, options)] == good


@pytest.mark.parametrize("name", ["ps", "lsof", "maps"])
def test_rows_that_were_read_before_are_whole_and_those_behind_say_why_not(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At half of the calls that it makes, its time is over."""
    tool, asked = tools.load(name), 0
    options = tool.defaults()

    def used(_self: Allowance, _grant: object) -> float:
        nonlocal asked
        asked += 1
        return float(asked)

    with open_session(lab.sample("6.12").dump, lab.store.root, processors=1) as session:
        good = [row.cells for row in limited_rows(tool, session, options)]
    with open_session(lab.sample("6.12").dump, lab.store.root, processors=1) as session:
        monkeypatch.setattr(Allowance, "_used_seconds", used)
        session.allowance.seconds = 1e9
        assert [row.cells for row in limited_rows(tool, session, options)] == good
        calls, asked = asked, 0
    with open_session(lab.sample("6.12").dump, lab.store.root, processors=1) as session:
        session.allowance.seconds, session.allowance.memory = 1e9, 1 << 60
        monkeypatch.setattr(allowance, "REFUSING", calls / 2 / 1e9)
        *rows, last = limited_rows(tool, session, options)
    assert "processor time" in reason_of(last)
    whole = [row.cells for row in rows if not any(isinstance(cell, Unavailable) for cell in row.cells)]
    assert set(whole) <= set(good)
    assert len(whole) < len(good)
