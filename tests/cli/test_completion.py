"""Shell completion, in real shells: what Tab offers after a line typed so far."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from generations import Lab

from hybridbridge_vol import tools
from hybridbridge_vol.cli.main import COMMANDS

SECONDS = 30.0
"""How long a shell may take to answer."""
ROOT = Path(__file__).resolve().parents[2]
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")

BASH = r"""
source <(hb completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete hb "${1##* }" ""
printf '%s\n' "${COMPREPLY[@]}"
"""
ZSH = "PROMPT=; autoload -Uz compinit; compinit -u -D; source <(hb completion zsh); print READ''Y\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An `hb` of this checkout in the PATH, and two images in the current directory."""
    script = tmp_path / "bin" / "hb"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m hybridbridge_vol "$@"\n')
    script.chmod(0o755)
    images = tmp_path / "images"
    images.mkdir()
    for name in ("dump-1.raw", "dump-2.raw"):
        (images / name).touch()
    return os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path)}


def offered(line: str, environment: dict[str, str], folder: Path) -> list[str]:
    """What bash offers for the last word of the line."""
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", line],
        env=environment, cwd=folder / "images", capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return sorted(word.rstrip() for word in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hb ", sorted(COMMANDS)),
        ("hb tr", ["train", "trust"]),
        ("hb run ", ["dump-1.raw", "dump-2.raw"]),
        ("hb run dump-1.raw ", sorted(tools.NAMES)),
        ("hb run dump-1.raw net", ["netstat"]),
        ("hb run dump-1.raw ps --t", ["--threads", "--tree"]),
        ("hb run dump-1.raw ps --bridge ", ["auto", "fast", "slow"]),
        ("hb run --format ", ["csv", "json", "text"]),
        ("hb run dump-1.raw ps -o pid,com", ["pid,comm"]),
        ("hb trust ", ["add", "export", "get", "import", "list", "rm", "show"]),
        ("hb batch . --tools ps,up", ["ps,uptime"]),
        ("hb completion ", ["bash", "zsh"]),
    ],
)
def test_bash_completes_commands_tools_options_and_values(
    line: str, words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    assert offered(line, environment, tmp_path) == words


def test_kernels_are_completed_from_the_store(lab: Lab, environment: dict[str, str], tmp_path: Path) -> None:
    lab.sample("6.1 two CPUs")
    names = sorted(kernel.name for kernel in lab.store.kernels())
    assert offered(f"hb trust show --store {lab.store.root} ", environment, tmp_path) == names
    assert offered("hb trust show ", environment, tmp_path) == [""], "the user's own store is empty"


def typed_in_zsh(line: str, wanted: str, environment: dict[str, str]) -> str:
    """What an interactive zsh shows when Tab is pressed behind the line, until `wanted` appears."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)

    def read_until(text: str) -> str:
        shown = ""
        while text not in shown and select.select([ours], [], [], SECONDS)[0]:
            shown += os.read(ours, 4096).decode(errors="replace")
        return shown

    try:
        os.write(ours, ZSH.encode())
        assert "READY" in read_until("READY")
        os.write(ours, f"{line}\t".encode())
        return read_until(wanted)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


@needs_zsh
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("hb run dump.raw mps", "mpstat"),
        ("hb run dump.raw ps --thr", "--threads"),
        ("hb trust sh", "show"),
    ],
)
def test_zsh_completes_behind_the_dump_too(line: str, completed: str, environment: dict[str, str]) -> None:
    assert completed in typed_in_zsh(line, completed, environment)
