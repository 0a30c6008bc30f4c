"""The guest's root, mounted by `hb mount` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NEEDS_FUSE = pytest.mark.skipif(
    not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None,
    reason="FUSE is not available here: no /dev/fuse, or the package fuse3 is missing",
)
PATIENCE = 60.0
"""Seconds for mounting and for unmounting."""


def _wait_for(condition: bool, folder: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while os.path.ismount(folder) != condition:
        assert process.poll() is None or not condition, process.communicate()
        assert time.monotonic() < end, "neither mounted nor unmounted in time"
        time.sleep(0.1)


@contextlib.contextmanager
def mounted_image(dump: Path, store: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that serves `folder`, which is made; Ctrl-C ends it."""
    folder.mkdir()
    command: list[str | Path] = [sys.executable, "-m", "hybridbridge_vol", "mount", dump, folder]
    process = subprocess.Popen(
        [*command, "--store", store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_for(True, folder, process)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        _wait_for(False, folder, process)
        process.wait(PATIENCE)
