"""Events of an examination: how they travel, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.lab.batch.assembly import Assembly, unexamined
from hybridbridge_vol.lab.batch.dataset import Record, ToolRun
from hybridbridge_vol.lab.batch.events import (
    Event,
    Facts,
    Failed,
    Identified,
    Step,
    ToolDone,
    Used,
    decode,
    encode,
)
from hybridbridge_vol.lab.batch.identify import Identity
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.lab.batch.worker.orders import Examine, Examined, Order

TEXTS = st.text(st.characters(codec=None, categories=None))
"""Any text, lone surrogates included: they stand for bytes of a guest that are not UTF-8."""
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Step, TEXTS),
    st.builds(Facts, banner=st.none() | TEXTS, captured=st.none() | st.floats(allow_nan=False)),
    st.builds(
        ToolDone, st.builds(ToolRun, TEXTS, st.just("ok"), rows=st.integers(0), error=st.none() | TEXTS)
    ),
    st.builds(Failed, TEXTS),
    st.builds(Used, st.floats(0, 1e9), st.integers(0, 1 << 62)),
    st.builds(Identified, st.builds(Identity, TEXTS, error=st.none() | TEXTS)),
)


@given(EVENTS)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    line = encode(event)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert decode(line, Event) == event


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{", b'{"type": "Gone"}', b'{"type": "Step"}', b'{"type": "Step", "name": 1}',
     b'{"type": "ToolDone", "run": {"tool": "ps", "status": "great"}}'],
)  # fmt: skip
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line, Event)


def test_an_order_and_its_answer_arrive_as_they_were_sent() -> None:
    request = Request("a", "/e/\udcff.raw", "/s", ("ps", "uname"), store="/t", image_seconds=2.5)
    assert decode(encode(Examine(request)), Order) == Examine(request)
    answer = Examined(unexamined(request, "no \udcff"))
    assert decode(encode(answer), Examined) == answer


def assembled(tmp_path: Path, *events: Event) -> Record:
    image = tmp_path / "a.raw"
    image.write_bytes(b"12345")
    assembly = Assembly(Request("a", str(image), str(tmp_path), ("ps", "uname")))
    for event in events:
        assembly.take(event)
    return assembly.examination().record


def test_facts_add_up_and_tools_come_in_the_order_of_the_request(tmp_path: Path) -> None:
    record = assembled(
        tmp_path, Facts(kernel="k", cpus=2), ToolDone(ToolRun("uname", "ok", 1)), Facts(sha256="ab"),
        ToolDone(ToolRun("ps", "ok", 9), "/t"), Used(1.5, 100), Used(0.5, 70),
    )  # fmt: skip
    assert (record.kernel, record.cpus, record.sha256, record.size) == ("k", 2, "ab", 5)
    assert [run.tool for run in record.tools] == ["ps", "uname"]
    assert (record.cpu_seconds, record.peak_rss, record.status) == (2.0, 100, "ok")


def test_only_the_file_that_a_tool_was_to_write_is_its_table(tmp_path: Path) -> None:
    """The process that says so may be the image's: what it names would be moved into the dataset."""
    other, mine = tmp_path / "other", tmp_path / "ps.parquet"
    other.write_bytes(b"not a table")
    request = Request("a", str(tmp_path / "a.raw"), str(tmp_path), ("ps", "uname"))

    def tables(*events: Event) -> dict[str, str]:
        assembly = Assembly(request)
        for event in events:
            assembly.take(event)
        return assembly.examination().tables

    assert tables(ToolDone(ToolRun("ps", "ok"), str(other))) == {}
    assert tables(ToolDone(ToolRun("ps", "ok"), str(mine))) == {}  # there is none
    mine.symlink_to(other)
    assert tables(ToolDone(ToolRun("ps", "ok"), str(mine))) == {}
    mine.unlink()
    mine.write_bytes(b"a table")
    assert tables(ToolDone(ToolRun("../other", "ok"), str(other))) == {}
    assert tables(ToolDone(ToolRun("ps", "ok"), str(mine))) == {"ps": str(mine)}


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((Failed("no"),), "failed"),
        ((ToolDone(ToolRun("ps", "ok")), Failed("no")), "ok"),
        ((ToolDone(ToolRun("ps", "timeout")),), "partial"),
    ],
)
def test_an_image_failed_if_no_tool_was_run(tmp_path: Path, events: Any, status: str) -> None:
    assert assembled(tmp_path, *events).status == status


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    record = assembled(tmp_path, Facts(banner="\udcff"), ToolDone(ToolRun("ps", "partial", error="x")))
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"id": "a"}', b"[" * 100_000, b"\xff"])
def test_a_damaged_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a record"):
        Record.from_json(data)
