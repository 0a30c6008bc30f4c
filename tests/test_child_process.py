"""What this program's own processes import."""

from __future__ import annotations

import gc
import os
import subprocess
import weakref
from pathlib import Path

import pytest

from hybridbridge_vol.child_process import fork, own_module


def test_nothing_is_imported_from_the_working_folder(tmp_path: Path) -> None:
    """It may be one with files of an image."""
    for name in ("struct", "json", "argparse", "hybridbridge_vol"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this file was executed')\n")
    command, environment = own_module("hybridbridge_vol", "--version")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hb ")


class _WithThreads:
    """What only its own process can end. In a circle, so that only the search for garbage finds it."""

    def __init__(self) -> None:
        self.circle = self


def test_a_child_does_not_finalize_what_was_its_parents_garbage() -> None:
    gc.collect()
    gc.disable()
    reading, writing = os.pipe()
    try:
        weakref.finalize(_WithThreads(), os.write, writing, b"finalized").atexit = False
        pid = fork()
        if not pid:
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 16)
        gc.collect()
        assert os.read(reading, 16) == b"finalized"
    finally:
        gc.enable()
        os.close(reading)
        os.close(writing)
