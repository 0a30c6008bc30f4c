"""A guest that is made once for all test runs of this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from generations import locked

from samples.apt import cache_folder


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The cached folder of that name, which `make` has filled; it is there as a whole, or not at all."""
    folder = cache_folder() / "endings" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                make(Path(scratch))
                os.rename(scratch, folder)
                os.mkdir(scratch)
    return folder
