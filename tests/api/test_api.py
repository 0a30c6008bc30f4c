"""The tools as methods: the rows are those of `hb run`, typed, and pandas takes them in one call."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas
import pytest
from generations import Lab

import hybridbridge_vol
from hybridbridge_vol.api import Snapshot, Table, documentation, field_of, row_type
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest import tools
from hybridbridge_vol.guest.render import answer_of, plain, write_json
from hybridbridge_vol.guest.tool import Column

GENERATION = "6.1 two CPUs"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def snapshot(lab: Lab) -> Iterator[Snapshot]:
    with hybridbridge_vol.open(lab.sample(GENERATION).dump, lab.store.root) as opened:
        yield opened


@pytest.mark.parametrize("name", [name for name in tools.NAMES if name not in ("cat", "dir", "getprocname", "memdump")])
def test_each_tool_is_a_method_with_the_rows_of_hb_run(lab: Lab, snapshot: Snapshot, name: str) -> None:
    tool = tools.load(name)
    options = {option.name: option.default for option in tool.options}
    out = io.StringIO()
    write_json(answer_of(tool, lab.session(GENERATION), options), out)
    table = getattr(snapshot, name)()
    told = json.loads(out.getvalue())
    assert len(table) == len(told)
    for number, (row, line) in enumerate(zip(table, told, strict=True)):
        for column, value in zip(table.columns, row, strict=False):
            assert _as_json(value, column) == line[column.name], (column, row)
        assert {column: why for at, column, why in table.unreadable if at == number} == line.get("unreadable", {})


def _as_json(value: object, column: Column) -> object:
    if isinstance(value, datetime):
        value = round((value - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1), 6)
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    return plain(value, column.kind)  # type: ignore[arg-type]


def test_a_dataframe_in_one_call_has_the_types_of_the_columns(snapshot: Snapshot) -> None:
    frame = pandas.DataFrame(snapshot.ps())
    assert len(frame) > 50
    assert str(frame.dtypes["start"]).endswith("UTC]")
    assert str(frame.dtypes["time"]).startswith("timedelta64")
    assert frame.dtypes["pid"] == "int64"
    assert frame[frame.pid == 1].iloc[0].comm == "init"


def test_to_pandas_keeps_the_names_of_the_columns_and_whole_numbers(snapshot: Snapshot) -> None:
    frame = snapshot.netstat().to_pandas()
    assert list(frame.columns)[:3] == ["PROTO", "RECV-Q", "SEND-Q"]
    assert frame.dtypes["RECV-Q"] == "Int64"
    assert snapshot.ps(pid=1).to_pandas()["%CPU"].dtype == "float64"


def test_options_are_the_tools(snapshot: Snapshot) -> None:
    assert [row.pid for row in snapshot.ps(pid=1)] == [row.pid for row in snapshot.ps(pid=[1])] == [1]
    assert {row.depth for row in snapshot.ps(tree=True)} > {0, 1}
    assert "lwp" in snapshot.ps(threads=True).row_type._fields
    assert snapshot.cat("/proc/1/comm")[0].text == "init"
    for wrong in ({"foo": 1}, {"threads": 1}, {"pid": "1"}):
        with pytest.raises(TypeError, match="ps"):
            snapshot.ps(**wrong)
    with pytest.raises(TypeError, match="path"):
        snapshot.cat()
    with pytest.raises(TypeError, match="only keyword"):
        snapshot.ps(1)
    with pytest.raises(AttributeError):
        snapshot.format_disk  # noqa: B018


def test_every_method_explains_itself() -> None:
    for name in tools.NAMES:
        text = documentation(tools.load(name))
        assert getattr(Snapshot, name).__doc__ == text
        assert text.startswith(tools.load(name).help)
        assert "Fields of a row:" in text


def test_files_and_facts(snapshot: Snapshot) -> None:
    assert snapshot.read_file("/proc/1/comm") == b"init\n"
    assert "stat" in snapshot.listdir("/proc/1")
    assert snapshot.kernel.startswith("6.1.")
    assert snapshot.frozen.year >= 2024
    with pytest.raises(OSError, match="only what is under /proc"):
        snapshot.read_file("/etc/passwd")


def test_an_image_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.raw"
    path.write_text("no image")
    with pytest.raises(HybridBridgeError, match=r"text\.raw"):
        hybridbridge_vol.open(path)


@pytest.mark.parametrize(
    ("column", "field"),
    [("%CPU", "pct_cpu"), ("SIZE/OFF", "size_off"), ("PID", "pid"), ("IN", "in_"), ("1MIN", "n1min"), ("%", "pct"), ("/", "value")],
)
def test_fields_are_named_by_one_rule(column: str, field: str) -> None:
    assert field_of(column) == field


def test_every_tools_fields_are_different_names() -> None:
    for name in tools.NAMES:
        tool = tools.load(name)
        columns = tool.columns_for({option.name: option.default for option in tool.options})
        assert len(set(row_type(name, columns, False)._fields)) == len(columns)


def test_hostile_names_are_text_in_a_notebook() -> None:
    column = Column("CMD", "str", "")
    table = Table((column,), row_type("ps", (column,), False))
    table.append(table.row_type("<script>alert(1)</script>\x1b[2J"))
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()
    assert "\x1b" not in table._repr_html_()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import hybridbridge_vol, sys; print(len([m for m in sys.modules if m in ('unicorn', 'pandas', 'capstone')]))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout == "0\n"


def test_the_example_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from examples import triage

    real = hybridbridge_vol.open
    monkeypatch.setattr(hybridbridge_vol, "open", lambda image: real(image, lab.store.root))
    assert triage.main([str(lab.sample(GENERATION).dump), "/nonexistent.raw"]) == 1
    shown = capsys.readouterr()
    assert "/memfd:payload (deleted)" in shown.out
    assert "[kworker/0:2-events]" in shown.out
    assert "/nonexistent.raw" in shown.err
