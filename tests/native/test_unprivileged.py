"""Programs run on images for users without any privilege, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from generations import Lab

pytestmark = pytest.mark.slow
IMAGE = "6.12"
ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


PATHS = f"{ROOT}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"


def interpreter() -> str | None:
    """A Python of this version that everybody may execute, with everything that `hb` needs."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", "import hybridbridge_vol.guest.session"],
                env={"PYTHONPATH": PATHS}, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/",
                capture_output=True, check=False,
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody reaches."""
    path = Path(tempfile.mkdtemp(prefix="hb-unprivileged-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="all tests run as a user without privileges already")
def test_nobody_runs_programs(lab: Lab, folder: Path) -> None:
    python = interpreter()
    if python is None:
        pytest.skip("no Python here that everybody may execute")
    subprocess.run(["cp", "--sparse=always", lab.sample(IMAGE).dump, folder / "dump.raw"], check=True)
    lab.copy_store(folder / "store")
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", folder], check=True)
    words = [
        "-m",
        "hybridbridge_vol",
        "exec",
        str(folder / "dump.raw"),
        "--store",
        str(folder / "store"),
    ]

    def run(*command: str, user_mode: str = "native") -> str:
        done = subprocess.run(
            [python, *words, "--user-mode", user_mode, "--", *command],
            env={"PYTHONPATH": PATHS, "HOME": str(folder), "PATH": "/usr/bin:/bin"},
            user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert run("uname", "-n") == lab.sample(IMAGE).truth.command("hostname")
    assert run("ps", "aux", user_mode="emulated") == run("ps", "aux")
    assert run("sh", "-c", "cat /proc/1/comm; id -u 2>/dev/null || echo 0").split() == ["init", "0"]
    assert len(run("sh", "-c", "for p in /proc/[0-9]*; do echo $p; done").split()) > 40
