"""The command line itself on a mutant: what a person would type."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hybridbridge_vol.cli.console import FAILED, OK, PARTIAL

WALL_SECONDS = 1500.0
SHARE = 0.06
"""Of the mutants, those on which a command is run: each starts Python anew."""
COMMANDS = (
    ("info", "{image}"),
    ("run", "{image}", "ps", "--tree", "--format", "json"),
    ("run", "{image}", "netstat", "-tulpan"),
    ("run", "{image}", "lsof", "--format", "csv"),
    ("run", "{image}", "hidden"),
    ("run", "{image}", "dir", "/"),
    ("run", "{image}", "cat", "/proc/1/smaps"),
    ("run", "{image}", "ps", "--provenance"),
    ("recover", "{image}", "--out", "{folder}", "--path", "/etc/*"),
    ("exec", "{image}", "--", "ps", "-ef"),
    ("exec", "{image}", "--", "ls", "-l", "/proc/1/fd"),
)


def failures_of_a_command(image: Path, store: Path, rng: random.Random) -> Iterator[str]:
    """Run one command, or none. It fails if it does not end, is ended by a signal, writes a traceback or has
    another exit status than it may have."""
    if rng.random() > SHARE:
        return
    words = rng.choice(COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        line = [word.format(image=image, folder=f"{folder}/out") for word in words]
        at = line.index("--") if "--" in line else len(line)
        line[at:at] = ["--store", str(store)]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "hybridbridge_vol", *line],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield f"{' '.join(words)}: did not end"
            return
    said = done.stderr.decode(errors="replace")
    if done.returncode not in (OK, FAILED, PARTIAL) or "Traceback" in said:
        yield f"{' '.join(words)}: exit status {done.returncode}: {said[-1500:]}"
