"""`hb mount`: the guest's files as a read-only file system."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import (
    DUMP_HELP,
    FILES_OF,
    add_fetch,
    add_kernel_at,
    add_ns_of,
    add_root_of,
    add_store,
)
from hybridbridge_vol.cli.console import OK, opened
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.progress import Progress


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Mount the guest's root directory, with its own /proc and /sys, read-only at a directory, and "
        "serve it until it is unmounted. Reading what the guest's memory does not hold is an input/output "
        "error, never zeros. Needs fuse3 and 'pip install mfusepy'."
    )
    parser.epilog = (
        "examples:\n"
        "  mkdir /mnt/case && hb mount dump.raw /mnt/case &\n"
        "  grep -r password /mnt/case/etc; sha256sum /mnt/case/usr/bin/*\n"
        "  fusermount3 -u /mnt/case                # or Ctrl-C"
    )
    parser.add_argument("dump", metavar="DUMP", help=DUMP_HELP)
    parser.add_argument("folder", metavar="DIR", help="an empty directory")
    add_ns_of(parser, FILES_OF)
    add_root_of(parser)
    add_store(parser)
    add_fetch(parser)
    add_kernel_at(parser)
    parser.set_defaults(execute=mount_command)


def mount_command(args: argparse.Namespace) -> int:
    """`hb mount DUMP DIR`"""
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("mfusepy") is None:
        raise OptionError("mfusepy is not installed: 'pip install mfusepy', and the package fuse3")
    with (
        Progress() as progress,
        opened(args, progress) as session,
    ):
        progress.clear()
        from hybridbridge_vol.workflow.mount import mount

        for found in session.files.all_unmounted():
            shown = found.missing or f"{found.kind}, at {found.place}: the guest had not mounted it there"
            print(f"{args.dump}: {shown}", file=sys.stderr)
        print(f"{args.dump}: mounted at {args.folder}; Ctrl-C unmounts", file=sys.stderr)
        mount(session, Path(args.folder))
    return OK
