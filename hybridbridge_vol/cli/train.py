"""`hb train`: run all tools on images so that later runs meet no unproven code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import DUMP_HELP, add_kernel_at, add_store
from hybridbridge_vol.cli.console import for_each, kernel_at, store_root
from hybridbridge_vol.progress import Progress


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Run every tool on memory images, under taint wherever the kernel's code is new. What is proven is "
        "added to the memos of the images' kernels, so that the first questions of the next case are "
        "answered at full speed."
    )
    parser.epilog = "example:\n  hb train sample1.raw sample2.lime"
    parser.add_argument("dumps", metavar="DUMP", nargs="+", help=DUMP_HELP)
    add_store(parser)
    add_kernel_at(parser)
    parser.set_defaults(execute=train_command)


def train_command(args: argparse.Namespace) -> int:
    """`hb train DUMP…`"""
    from hybridbridge_vol.workflow.train import train

    def one(path: str) -> str:
        with Progress() as progress:
            total = train(path, store_root(args), progress, kernel_at(args)).total
        return f"{path}: {total.traps} traps, {total.memoized} instructions newly proven"

    return for_each(args.dumps, one)
