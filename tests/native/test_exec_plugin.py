"""hb.exec: the lines that a program prints, as rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from generations import Lab

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.native.exec_tool import TOOL
from hybridbridge_vol.toolkit.cells import Unavailable

IMAGE = "6.12"
ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {"tools": None, "seconds": 60, "user-mode": None, "typed": False}


def test_lines_streams_and_status(lab: Lab) -> None:
    options = DEFAULTS | {"command": "sh -c 'uname -n; echo; echo e >&2; exit 3'"}
    name = lab.sample(IMAGE).truth.command("hostname").strip()
    assert [row.cells for row in TOOL.rows(lab.session(IMAGE), options)] == [
        (1, "stdout", name), (2, "stdout", ""), (1, "stderr", "e"), (None, "status", "exit status 3"),
    ]  # fmt: skip


def test_a_program_is_emulated_where_that_is_asked(lab: Lab) -> None:
    """Which it is shows by what cannot be emulated."""
    options = DEFAULTS | {
        "command": "sh -c 'read a < /proc/sys/kernel/hostname; echo $a; (true)'",
        "user-mode": "emulated",
    }
    name, said, status = [
        row.cells for row in TOOL.rows(lab.session(IMAGE), options) if row.cells[1] != "stderr"
    ]
    assert name == (1, "stdout", lab.sample(IMAGE).truth.command("hostname").strip())
    assert "an emulated program is alone" in str(said[2]) and status == (None, "status", "exit status 2")
    with pytest.raises(OptionError, match="one of native, emulated"):
        list(TOOL.rows(lab.session(IMAGE), options | {"user-mode": "other"}))


@pytest.mark.parametrize("command", ["", "sh -c 'unclosed"])
def test_a_command_that_is_none_is_reported(lab: Lab, command: str) -> None:
    with pytest.raises(OptionError):
        list(TOOL.rows(lab.session(IMAGE), DEFAULTS | {"command": command}))


def test_what_a_known_program_prints_has_a_column_for_each_field(lab: Lab) -> None:
    pytest.importorskip("jc")
    options = DEFAULTS | {"command": "df -k /proc /no/such", "typed": True}
    session = lab.session(IMAGE)
    tool = TOOL.answering(session, options)
    columns = [(column.name, column.kind) for column in tool.columns_for(options)]
    assert {("filesystem", "str"), ("1k_blocks", "int"), ("mounted_on", "str")} <= set(columns)
    first, *said = [row.cells for row in tool.rows(session, options)]
    assert dict(zip((name for name, _kind in columns), first, strict=True))["mounted_on"] == "/proc"
    assert {cells[0] for cells in said} == {
        Unavailable("df: /no/such: No such file or directory"), Unavailable("exit status 1"),
    }  # fmt: skip


def test_output_that_the_parser_cannot_read_is_shown_as_lines(lab: Lab) -> None:
    pytest.importorskip("jc")
    options = DEFAULTS | {"command": "uptime --version", "typed": True}
    session = lab.session(IMAGE)
    tool = TOOL.answering(session, options)
    rows = [row.cells for row in tool.rows(session, options)]
    assert rows[0][:2] == (1, "stdout") and isinstance(rows[-1][2], Unavailable)


def test_a_program_without_a_parser_is_reported_before_it_runs(lab: Lab) -> None:
    pytest.importorskip("jc")
    options = DEFAULTS | {"command": "tac /etc/passwd", "typed": True}
    with pytest.raises(OptionError, match="tac: jc has no parser"):
        TOOL.answering(lab.session(IMAGE), options)


def test_volatility_runs_a_program(lab: Lab) -> None:
    program = "import sys; sys.argv[0] = 'vol'; from volatility3.cli import main; main()"
    dump, store = str(lab.sample(IMAGE).dump), str(lab.store.root)
    words = ["-q", "-r", "json", "-p", str(ROOT / "plugins"), "-f", dump, "hb.exec", "--store", store]
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--command", "uname -n"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    assert [row["TEXT"] for row in rows] == [lab.sample(IMAGE).truth.command("hostname").strip()]
