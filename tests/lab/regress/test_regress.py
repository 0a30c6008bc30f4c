"""Recording and verifying on real images: exit codes, the report, pytest; and the project's own cases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest
from generations import GENERATIONS, Lab

from hybridbridge_vol.cli.regress import parse_run
from hybridbridge_vol.lab.regress import regress
from hybridbridge_vol.lab.regress.cases import read_cases

ROOT = Path(__file__).resolve().parents[3]
OWN = ROOT / "samples" / "cases.toml"
GENERATION = "6.1 two CPUs"
INSTALLED = any(point.name == "hybridbridge" for point in entry_points(group="pytest11"))
PLUGIN = () if INSTALLED else ("-p", "hybridbridge_vol.pytest_plugin")


class Recorded(NamedTuple):
    cases: Path
    store: Path

    def hb(self, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [
            sys.executable,
            "-m",
            "hybridbridge_vol",
            "regress",
            action,
            str(self.cases),
            "--store",
            str(self.store),
            *arguments,
        ]
        return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [
            sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-q",
            "--hb-cases", str(self.cases), "--hb-store", str(self.store), *arguments,
        ]  # fmt: skip
        env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
        return subprocess.run(
            line, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False, env=env
        )


@pytest.fixture(scope="module")
def template(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "a.raw").symlink_to(lab.sample(GENERATION).dump)
    (folder / "cases.toml").write_text('[[case]]\nname = "web"\nimage = "a.raw"\nrun = ["uname", "lsmod"]\n')
    recorded = Recorded(folder / "cases.toml", lab.store.root)
    done = recorded.hb("record")
    assert (done.returncode, done.stderr) == (0, "")
    return recorded


@pytest.fixture
def recorded(template: Recorded, tmp_path: Path) -> Recorded:
    shutil.copytree(template.cases.parent, tmp_path / "cases", symlinks=True)
    return template._replace(cases=tmp_path / "cases" / "cases.toml")


def change(recorded: Recorded) -> None:
    """Let another module have been there when the answer was recorded."""
    path = recorded.cases.parent / "golden" / "web" / "lsmod.json"
    first = next(line for line in path.read_text().splitlines() if "MODULE" in line and "columns" not in line)
    path.write_text(path.read_text().replace(first, first.replace('"USED": ', '"USED": 1'), 1))


def test_an_unchanged_answer_is_the_same(recorded: Recorded) -> None:
    done = recorded.hb("verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "web: uname: same\nweb: lsmod: same\n", "")


def test_a_changed_answer_is_shown_and_exits_1(recorded: Recorded, tmp_path: Path) -> None:
    change(recorded)
    done = recorded.hb("verify", "--junit", str(tmp_path / "results.xml"))
    assert done.returncode == 1
    assert "web: uname: same\nweb: lsmod: different\n  ~ MODULE " in done.stdout
    suite = ET.parse(tmp_path / "results.xml").getroot()[0]
    assert [suite.attrib[name] for name in ("tests", "failures", "errors")] == ["2", "1", "0"]
    assert "USED" in str(suite[1][0].text)
    again = recorded.hb("record")
    assert again.returncode == 0
    assert "web: uname: as it was\nweb: lsmod: recorded anew\n  ~ MODULE" in again.stdout
    assert recorded.hb("verify").returncode == 0


def test_a_run_that_cannot_be_answered_exits_2_with_one_line(recorded: Recorded, tmp_path: Path) -> None:
    (recorded.cases.parent / "a.raw").unlink()
    done = recorded.hb("verify", "--junit", str(tmp_path / "results.xml"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 2
    assert "there is no image" in done.stderr
    assert ET.parse(tmp_path / "results.xml").getroot()[0].attrib["errors"] == "2"
    (recorded.cases.parent / "a.raw").write_text("no image")
    assert recorded.hb("verify").returncode == 2
    assert recorded.hb("verify", "--only", "nobody").returncode == 2
    nowhere = str(tmp_path / "nowhere" / "results.xml")
    done = recorded.hb("verify", "--junit", nowhere)
    assert (done.returncode, nowhere in done.stderr.splitlines()[-1]) == (2, True)
    recorded.cases.write_text("[[case")
    done = recorded.hb("record")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_pytest_makes_each_run_a_test(recorded: Recorded, tmp_path: Path) -> None:
    change(recorded)
    done = recorded.pytest("--junitxml", str(tmp_path / "results.xml"))
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "~ MODULE " in done.stdout
    assert "Traceback" not in done.stdout
    names = [case.attrib["name"] for case in ET.parse(tmp_path / "results.xml").getroot().iter("testcase")]
    assert names == ["web: uname", "web: lsmod"]
    chosen = recorded.pytest("-k", "uname")
    assert "1 passed, 1 deselected" in chosen.stdout


def test_pytest_reports_a_bad_file_in_one_line(recorded: Recorded) -> None:
    recorded.cases.write_text("[[case")
    done = recorded.pytest()
    assert done.returncode == 2
    assert "not TOML" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("name", [case.name for case in read_cases(OWN, parse_run)])
def test_the_sample_images_answer_as_recorded(lab: Lab, name: str) -> None:
    """The project's own regression test: samples/cases.toml."""
    lab.sample(
        next(key for key in GENERATIONS if key.startswith(name.partition(" ")[0]))
    )  # its kernel is trusted then
    (case,) = read_cases(OWN, parse_run, (name,))
    results = list(regress.verify(case, case.runs, lab.store.root))
    assert len(results) == len(case.runs)
    assert {result.run.text: result.error or result.lines for result in results} == {
        run.text: () for run in case.runs
    }
