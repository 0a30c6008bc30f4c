"""`hb batch --exec`: what a native program prints about each image, as a table of the dataset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from generations import Lab

from hybridbridge_vol.cli.batch import chosen_programs
from hybridbridge_vol.errors import OptionError

IMAGE = "6.12"


def test_a_program_becomes_a_table(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "case"
    words = ["batch", str(lab.sample(IMAGE).dump), "--out", str(out), "--tools", "uname", "--format", "jsonl"]
    options = ["--store", str(lab.store.root), "--jobs", "1"]
    command = [sys.executable, "-m", "hybridbridge_vol", *words, *options, "--exec", "names=uname -n"]
    subprocess.run(command, check=True, capture_output=True)
    (table,) = (out / "tables" / "names").rglob("*.jsonl")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [row["TEXT"] for row in rows] == [lab.sample(IMAGE).truth.command("hostname").strip()]
    again = [*command[:-1], "names=uname -r"]  # another command: the image is examined again
    subprocess.run(again, check=True, capture_output=True)
    (table,) = (out / "tables" / "names").rglob("*.jsonl")
    assert lab.kernel(IMAGE).release in table.read_text()


@pytest.mark.parametrize("text", ["ss", "=ss", "a b=ss", "../x=ss", "ps=ss", "x=", "x= "])
def test_names_that_cannot_be_tables_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        chosen_programs([text])


def test_a_name_is_given_once() -> None:
    assert chosen_programs(["a=ss -an", "b=ip route"]) == (("a", "ss -an"), ("b", "ip route"))
    with pytest.raises(OptionError):
        chosen_programs(["a=ss", "a=ip route"])
