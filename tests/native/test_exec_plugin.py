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

IMAGE = "6.12"
ROOT = Path(__file__).resolve().parents[2]


def test_lines_streams_and_status(lab: Lab) -> None:
    options = {"command": "sh -c 'uname -n; echo; echo e >&2; exit 3'", "tools": None, "seconds": 60}
    name = lab.sample(IMAGE).truth.command("hostname").strip()
    assert [row.cells for row in TOOL.rows(lab.session(IMAGE), options)] == [
        (1, "stdout", name), (2, "stdout", ""), (1, "stderr", "e"), (None, "status", "exit status 3"),
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["", "sh -c 'unclosed"])
def test_a_command_that_is_none_is_reported(lab: Lab, command: str) -> None:
    with pytest.raises(OptionError):
        list(TOOL.rows(lab.session(IMAGE), {"command": command, "tools": None, "seconds": None}))


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
