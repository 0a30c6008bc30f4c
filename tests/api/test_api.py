"""`hybridbridge_vol.open`: the tools as methods, on a real image."""

from __future__ import annotations

import datetime
import gc
import importlib.util
import io
import json
import os
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import Lab
from open_files import left_open, open_files

import hybridbridge_vol
from hybridbridge_vol import tools
from hybridbridge_vol.api.signatures import keyword_of
from hybridbridge_vol.api.snapshot import Snapshot
from hybridbridge_vol.api.table import Table, field_of
from hybridbridge_vol.cli.main import main
from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.toolkit.cells import as_json, without_surrogates
from hybridbridge_vol.toolkit.render import answer_of, write_json

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def snapshot(lab: Lab) -> Iterator[Snapshot]:
    with hybridbridge_vol.open(lab.sample("6.12").dump, lab.store.root) as opened:
        yield opened


def seconds(value: Any) -> Any:
    """A value of Python as a tool's cell."""
    if isinstance(value, datetime.datetime):
        return round(value.timestamp(), 6)
    return value.total_seconds() if isinstance(value, datetime.timedelta) else value


def test_rows_are_those_of_hb_run(snapshot: Snapshot, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["netstat", "-ta", "--format", "json", "--store", str(lab.store.root)]
    assert main(["run", str(lab.sample("6.12").dump), *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (
        [json_row(row, snapshot.netstat(tcp=True, all=True)) for row in snapshot.netstat(tcp=True, all=True)]
        == answer
        != []
    )


RULES = Path(__file__).parents[1] / "support" / "init.yar"
ARGUMENTS: dict[str, Any] = {
    "cat": "/proc/1/status", "dir": "/proc/1/fd", "getprocname": 1, "owner": "0x1000000", "yara": str(RULES),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in tools.NAMES if name != "memdump"])
def test_each_tool_is_a_method_with_the_rows_of_hb_run(lab: Lab, snapshot: Snapshot, name: str) -> None:
    tool, given = tools.load(name), [ARGUMENTS[name]] if name in ARGUMENTS else []
    options = tool.defaults()
    options |= {
        option.name: tuple(given) if option.many else given[0] for option in tool.options if option.positional
    }
    out = io.StringIO()
    write_json(answer_of(tool, lab.session("6.12"), options), out)
    table = getattr(snapshot, name)(*given)
    answer = json.loads(out.getvalue())
    assert len(table) == len(answer)
    for number, (row, line) in enumerate(zip(table, answer, strict=True)):
        assert {gap.column: gap.reason for gap in table.unreadable if gap.row == number} == line.pop(
            "unreadable", {}
        )
        assert json_row(row, table) == {
            name: without_surrogates(value) if isinstance(value, str) else value
            for name, value in line.items()
        }


def json_row(row: Any, table: Table[Any]) -> dict[str, object]:
    """A row as `hb run --format json` writes it."""
    line = {
        column.name: as_json(seconds(getattr(row, field_of(column.name))), column.kind)
        for column in table.columns
    }
    return line | ({"depth": row.depth} if getattr(row, "depth", 0) else {})


def test_a_table_becomes_a_data_frame_in_one_call(snapshot: Snapshot) -> None:
    pandas = pytest.importorskip("pandas")
    table = snapshot.ps()
    frame = pandas.DataFrame(table)
    assert list(frame.columns) == [
        "pid",
        "ppid",
        "uid",
        "tty",
        "stat",
        "start",
        "time",
        "pct_cpu",
        "pct_mem",
        "vsz",
        "rss",
        "nlwp",
        "comm",
        "cmd",
        "depth",
    ]
    native = table.to_pandas()
    assert list(native.columns) == [*(column.name for column in table.columns), "depth"]
    for made, names in (
        (frame, ("pid", "start", "time", "pct_cpu")),
        (native, ("PID", "START", "TIME", "%CPU")),
    ):
        kinds = [str(made[name].dtype) for name in names]
        assert kinds == ["int64", "datetime64[us, UTC]", "timedelta64[us]", "float64"]
        assert list(made[names[0]]) == [row.pid for row in table]


def test_a_tree_keeps_its_depths(snapshot: Snapshot) -> None:
    table = snapshot.ps(tree=True)
    assert {0, 1, 2} <= {row.depth for row in table}
    assert {row.depth for row in snapshot.ps()} == {0}
    assert sorted(row.pid or 0 for row in table) == sorted(row.pid or 0 for row in snapshot.ps())


@pytest.mark.parametrize("name", tools.NAMES)
def test_every_tool_has_a_documented_method(name: str) -> None:
    tool, method = tools.load(name), getattr(Snapshot, name)
    assert tool.help in method.__doc__
    for option in tool.options:
        assert option.help in method.__doc__
        assert keyword_of(option) in method.__signature__.parameters
    fields = [field_of(column.name) for column in tool.columns]
    assert len(set(fields)) == len(fields)
    assert all(field.isidentifier() for field in fields)


def test_options_are_checked_and_named(snapshot: Snapshot) -> None:
    with pytest.raises(TypeError, match=r"ps: .*'thread'; its options are pid: .*threads: bool, tree: bool"):
        snapshot.ps(thread=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"ps: threads must be bool, not 'yes'"):
        snapshot.ps(threads="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ps: pid must be int .*, not \['1'\]"):
        snapshot.ps(pid=["1"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="hostname: .*it has no options"):
        snapshot.hostname(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="dir: .*'path'"):
        snapshot.dir()  # type: ignore[call-arg]
    assert [row.pid for row in snapshot.ps(pid=1)] == [row.pid for row in snapshot.ps(pid=[1])] == [1]
    assert list(snapshot.cat("/proc/1/comm")) == list(snapshot.cat(path=["/proc/1/comm"])) == [(1, "init")]


def test_files_and_facts_are_the_guests(snapshot: Snapshot, lab: Lab) -> None:
    assert snapshot.read_file("/proc/1/comm") == b"init\n"
    assert "status" in snapshot.listdir("/proc/1")
    assert snapshot.kernel.startswith("6.12.")
    assert snapshot.captured is not None and snapshot.captured.timestamp() == pytest.approx(
        snapshot.facts.captured_at
    )
    assert snapshot.facts.hostname == snapshot.hostname()[0].hostname
    assert snapshot.path == snapshot.facts.path == str(lab.sample("6.12").dump)
    assert snapshot.read_file("/proc/../etc/passwd").startswith(b"root:x:0:0:")
    for path in ("/proc/1/nothing", "/etc/nothing", "/proc/../etc/nothing"):
        with pytest.raises(FileNotFoundError):
            snapshot.read_file(path)


def test_close_releases_everything(lab: Lab) -> None:
    image = lab.sample("6.12").dump
    gc.collect()  # what other tests have left
    descriptors = open_files()
    mapped = Path("/proc/self/maps").read_text().count(str(image))
    opened = hybridbridge_vol.open(str(image), str(lab.store.root))
    rows, gone = opened.hostname(), weakref.ref(opened.session())
    opened.close()
    opened.close()
    assert rows[0].hostname
    with pytest.raises(ValueError, match="closed"):
        opened.hostname()
    with pytest.raises(ValueError, match="closed"):
        opened.read_file("/proc/version")
    gc.collect()
    assert gone() is None
    assert left_open(descriptors) == Counter()
    assert Path("/proc/self/maps").read_text().count(str(image)) == mapped


def test_a_file_that_is_not_an_image_is_one_line(tmp_path: Path, lab: Lab) -> None:
    (tmp_path / "none").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="none"):
        hybridbridge_vol.open(tmp_path / "none", lab.store.root)
    with pytest.raises(ValueError, match="bridge must be one of auto, "):
        hybridbridge_vol.open(lab.sample("6.12").dump, lab.store.root, bridge="quick")


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys, hybridbridge_vol; "
        "print([n for n in sys.modules if 'hybridbridge' in n or n in ('pandas', 'numpy')])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "['hybridbridge_vol']"


def test_the_stub_file_is_current() -> None:
    place = importlib.util.spec_from_file_location("stubs", ROOT / "build_support" / "stubs.py")
    assert place is not None and place.loader is not None
    stubs = importlib.util.module_from_spec(place)
    place.loader.exec_module(stubs)
    assert stubs.STUB.read_text() == stubs.stub_text(), "run `make stubs`"


def test_the_example_script_finds_what_the_workload_hides(lab: Lab) -> None:
    pytest.importorskip("pandas")
    image, bad = lab.sample("6.12").dump, "/dev/null"
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "triage.py"),
            "--store",
            str(lab.store.root),
            str(image),
            bad,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("/dev/null: ") and done.stderr.count("\n") == 1
    for word in ("sample-13", "looks like a kernel thread", "(deleted)"):
        assert word in done.stdout
