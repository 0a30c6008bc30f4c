"""Folders of unpacked packages, kept in the cache: each made once, by whichever process is first."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from samples.apt import cache_folder


def unpacked(kind: str, packages: Sequence[Path], unpack: Callable[[Path, Path], None]) -> Path:
    """The folder of these packages below the cache's folder `kind`; where it is missing, `unpack(package,
    folder)` fills it with each of them. OSError."""
    names = " ".join(sorted(path.name for path in packages))
    folder = cache_folder() / kind / hashlib.sha256(names.encode()).hexdigest()[:12]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tree = Path(scratch) / "tree"
        for package in packages:
            unpack(package, tree)
        try:
            os.rename(tree, folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise
    return folder
