"""The command line itself on a mutant: what a person would type."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybridbridge_vol.cli.console import FAILED, OK, PARTIAL

WALL_SECONDS = 1500.0
_SIGNALLED = 128
"""The exit status of a program that a signal ended is this and more (sh(1))."""
SHARE = 0.05
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
    ("mount", "{image}", "{folder}"),
)


def failures_of_a_command(image: Path, store: Path, rng: random.Random) -> Iterator[str]:
    """Run one command, or none. It fails if it does not end, is ended by a signal, writes a traceback or has
    another exit status than it may have."""
    if rng.random() > SHARE:
        return
    yield from failures_of(rng.choice(COMMANDS), image, store)


def failures_of(words: Sequence[str], image: Path, store: Path) -> Iterator[str]:
    """The same of one of `COMMANDS`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        line = [word.format(image=image, folder=f"{folder}/out") for word in words]
        at = line.index("--") if "--" in line else len(line)
        line[at:at] = ["--store", str(store)]
        command = [sys.executable, "-m", "hybridbridge_vol", *line]
        try:
            status, said = _mounted(command) if words[0] == "mount" else _run(command)
        except subprocess.TimeoutExpired as error:
            yield f"{' '.join(words)}: did not end: {error.cmd}"
            return
    if not may_end_with(status, words[0]) or "Traceback" in said:
        yield f"{' '.join(words)}: exit status {status}: {said[-1500:]}"


def may_end_with(status: int, command: str) -> bool:
    """`hb exec` ends as its program does, which has statuses of its own; a signal is none of either."""
    return 0 <= status < _SIGNALLED if command == "exec" else status in (OK, FAILED, PARTIAL)


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Exit status and messages. TimeoutExpired."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        timeout=WALL_SECONDS, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.decode(errors="replace")


def _mounted(command: Sequence[str]) -> tuple[int, str]:
    """The same of `hb mount`: looked around in as a person would, then Ctrl-C."""
    folder = next(word for word in command if word.endswith("/out"))
    os.mkdir(folder)
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            end = time.monotonic() + WALL_SECONDS
            while server.poll() is None and not _is_mounted(folder):
                if time.monotonic() > end:
                    raise subprocess.TimeoutExpired(command, WALL_SECONDS)
                time.sleep(_POLL_SECONDS)
            if server.poll() is None:
                for looking in _LOOKING:
                    _run([word.format(folder=folder) for word in looking])
                server.send_signal(signal.SIGINT)
            server.wait(WALL_SECONDS)
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
            subprocess.run(["fusermount3", "-uzq", folder], check=False, capture_output=True)
        said.seek(0)
        return server.returncode, said.read().decode(errors="replace")


def _is_mounted(folder: str) -> bool:
    """By the kernel's list: a root directory that cannot be looked at is one, too."""
    return f" {folder} fuse" in Path("/proc/self/mounts").read_text()


_POLL_SECONDS = 0.2
_LOOKING = (
    ("find", "{folder}", "-maxdepth", "2", "-newermt", "2000-01-01"),
    ("sh", "-c", "cat {folder}/etc/passwd {folder}/proc/1/status {folder}/bin/* | wc -c"),
)
"""What is done in the mounted folder."""
