"""A store of a test's own, with kernels that the run's store has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel


def copy_without_memos(kernel: StoredKernel, store: Store) -> None:
    """Put a stored kernel into another store, where nothing is proven about it."""
    link(kernel, store.root, "memo-*")


def link(kernel: StoredKernel, root: Path, *but: str) -> None:
    """The same, with its memos, but for files of some names. An entry's files are replaced and never
    changed, so both stores may have the same ones."""
    ignored = shutil.ignore_patterns(".*", *but)
    shutil.copytree(kernel.folder, root / kernel.name, ignore=ignored, copy_function=os.link)
