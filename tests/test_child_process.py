"""What this program's own processes import."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hybridbridge_vol.child_process import own_module


def test_nothing_is_imported_from_the_working_folder(tmp_path: Path) -> None:
    """It may be one with files of an image."""
    for name in ("struct", "json", "argparse", "hybridbridge_vol"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this file was executed')\n")
    command, environment = own_module("hybridbridge_vol", "--version")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hb ")
