"""hb isf: Volatility's symbol table of a kernel."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.progress import Progress

if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.kernel import KernelImage


def isf_command(args: argparse.Namespace) -> int:
    """hb isf KERNEL [--out FILE]"""
    from hybridbridge_vol.kernel_file.isf.table import isf_of, write_isf

    given = getattr(args, "out", None)
    if given is not None and not given.endswith((".json", ".json.xz")):
        raise OptionError(
            f"{given}: Volatility takes a symbol table by its name: end it with .json or .json.xz"
        )
    with Progress() as progress:
        kernel = _kernel(args, progress)
        progress(0.3, "converting types and symbols")
        target = Path(given or f"{kernel.release}-{kernel.build_id[:12]}.json.xz")
        write_isf(isf_of(kernel), target, progress)
    print(target)
    return 0


def _kernel(args: argparse.Namespace, progress: Progress) -> KernelImage:
    """A kernel file, or a stored kernel by its name."""
    from hybridbridge_vol.kernel_file.kernel import KernelImage
    from hybridbridge_vol.trust.store import Store

    if os.path.isfile(args.kernel):
        return KernelImage.from_file(args.kernel, lambda fraction, text: progress(0.3 * fraction, text))
    store = Store(Path(args.store) if hasattr(args, "store") else None)
    return store.find(args.kernel).kernel_image()
