"""`hb isf`: Volatility's symbol table of a kernel."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybridbridge_vol.cli.arguments import add_store
from hybridbridge_vol.cli.console import OK, open_store
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.progress import Progress

if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.kernel import KernelImage


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Write Volatility's symbol table (ISF) of a kernel, from the types (BTF) and symbols (kallsyms) that "
        "the kernel itself carries. Volatility's own linux.* plugins then work on its images without a debug "
        "package."
    )
    parser.epilog = (
        "example:\n"
        "  hb isf 6.1.0-56-cloud-amd64 --out symbols/6.1.0-56-cloud-amd64.json.xz\n"
        "  vol -s symbols -f dump.raw linux.pslist"
    )
    parser.add_argument(
        "kernel", metavar="KERNEL", help="a stored kernel's name, or the file of a vmlinuz or package"
    )
    parser.add_argument(
        "--out", metavar="FILE", default=argparse.SUPPRESS,
        help="file to write, .json or .json.xz (default: named after the kernel, in the current directory)",
    )  # fmt: skip
    add_store(parser)
    parser.set_defaults(execute=isf_command)


def isf_command(args: argparse.Namespace) -> int:
    """`hb isf KERNEL [--out FILE]`"""
    from pathlib import Path

    from hybridbridge_vol.kernel_file.isf.table import isf_of, write_isf

    given = getattr(args, "out", None)
    if given is not None and not given.endswith((".json", ".json.xz")):
        raise OptionError(
            f"{given}: Volatility finds symbol tables by name: it must end with .json or .json.xz"
        )
    with Progress() as progress:
        kernel = _kernel(args, progress)
        progress(0.3, "converting types and symbols")
        target = Path(given or f"{kernel.release}-{kernel.build_id[:12]}.json.xz")
        write_isf(isf_of(kernel), target, progress)
    print(target)
    return OK


def _kernel(args: argparse.Namespace, progress: Progress) -> KernelImage:
    """A kernel file, or a stored kernel by its name."""
    from hybridbridge_vol.kernel_file.kernel import KernelImage

    if os.path.isfile(args.kernel):
        return KernelImage.from_file(args.kernel, lambda fraction, text: progress(0.3 * fraction, text))
    return open_store(args).find(args.kernel).kernel_image()
