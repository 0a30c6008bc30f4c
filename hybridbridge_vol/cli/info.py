"""`hb info`: what a memory image is, and which trusted kernel fits it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import DUMP_HELP, add_format, add_kernel_at, add_store
from hybridbridge_vol.cli.console import OK, format_of, kernel_at, store_root
from hybridbridge_vol.progress import Progress


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Identify a memory image: its format, its kernel, the kernel's virtual layout, and the capture time "
        "by the guest's clock. If no stored kernel fits, the output names the package to fetch."
    )
    parser.epilog = "examples:\n  hb info dump.raw\n  hb info dump.raw --format json | jq -r .banner"
    parser.add_argument("dump", metavar="DUMP", help=DUMP_HELP)
    add_format(parser, ("text", "json"))
    add_store(parser)
    add_kernel_at(parser)
    parser.set_defaults(execute=info_command)


def info_command(args: argparse.Namespace) -> int:
    """`hb info DUMP`"""
    from hybridbridge_vol.cli.report import write_facts
    from hybridbridge_vol.workflow.describe_image import describe

    with Progress() as progress:
        facts = describe(args.dump, store_root(args), progress, kernel_at(args))
    write_facts(facts, format_of(args), sys.stdout)
    return OK
