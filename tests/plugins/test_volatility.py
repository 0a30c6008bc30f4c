"""The plugins under Volatility's own command line, on real images."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
VOL = [str(Path(sys.executable).parent / "vol"), "-q", "-p", str(ROOT / "plugins")]
Lab = Any


def vol(lab: Lab, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `vol -f IMAGE ARGUMENTS --store STORE`."""
    options = [word for word in arguments if word.startswith("--renderer")]
    rest = [word for word in arguments if not word.startswith("--renderer")]
    command = [*VOL, "-f", str(lab.sample(name).dump), *options, *rest, "--store", str(lab.store.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_hb_ps_is_the_table_of_hb_run(lab: Lab, generation: str) -> None:
    done = vol(lab, generation, "--renderer=json", "hb.ps")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert sorted(row["PID"] for row in rows) == lab.sample(generation).truth.processes


@pytest.mark.parametrize("plugin", ["hb.uname", "hb.hostname", "hb.uptime", "hb.lsmod"])
def test_the_other_plugins_answer(lab: Lab, plugin: str) -> None:
    done = vol(lab, "6.12", "--renderer=json", plugin)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_hb_cat_and_dir_take_paths(lab: Lab) -> None:
    done = vol(lab, "6.12", "hb.cat", "--path", "/proc/version")
    assert "Linux version 6.12" in done.stdout
    done = vol(lab, "6.12", "hb.dir", "--path", "/sys/kernel")
    assert "uevent_seqnum" in done.stdout


def test_a_plugin_answers_from_inside_a_container(lab: Lab) -> None:
    truth = lab.sample("6.12").truth
    inner = next(
        pid
        for pid in truth.processes
        if re.search(rb"^NSpid:.*\t1$", truth.file(f"/proc/{pid}/status"), re.MULTILINE) and pid != 1
    )
    done = vol(lab, "6.12", "hb.hostname", "--ns-of", str(inner))
    assert "web-container" in done.stdout
    done = vol(lab, "6.12", "hb.hostname", "--ns-of", "4000000")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"hb.hostname: {lab.sample('6.12').dump}: --ns-of 4000000: no such process in the image\n"
    )


def test_an_error_is_one_line_without_traceback(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty.raw").touch()
    command = [*VOL, "-f", str(tmp_path / "empty.raw"), "hb.ps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "empty.raw: empty" in done.stderr
