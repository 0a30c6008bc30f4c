"""`hb recover`: store the content of the guest's files, with a manifest of what is complete."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybridbridge_vol.cli.arguments import (
    DUMP_HELP,
    FILES_OF,
    add_fetch,
    add_kernel_at,
    add_ns_of,
    add_root_of,
    add_store,
)
from hybridbridge_vol.cli.console import OK, PARTIAL, complain, opened
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.progress import Progress

if TYPE_CHECKING:
    from hybridbridge_vol.cli.sandbox import OutsideBoots
    from hybridbridge_vol.workflow.recover.guest_disk import Disk


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Store what the guest's memory holds of its files: of tmpfs and memfd everything, of a disk what was "
        "in the page cache; deleted files that were in use, too. A file of which a part is missing is put "
        "below 'incomplete', and nothing is filled with zeros: manifest.csv and manifest.parquet "
        "list what is missing, with its offsets on the disk where the file system knows them. An interrupted "
        "recovery into a folder continues where it was."
    )
    parser.epilog = (
        "examples:\n"
        "  hb recover dump.raw --out case-17/\n"
        "  hb recover dump.raw --out tmp.tar --path '/tmp/*' --path '/dev/shm/*'\n"
        "  hb recover dump.raw --out full/ --disk /=root-partition.img --disk /srv=disk.img@1048576"
    )
    parser.add_argument("dump", metavar="DUMP", help=DUMP_HELP)
    parser.add_argument(
        "--out", metavar="PATH", required=True, help="a folder, or an archive that ends in .tar"
    )
    parser.add_argument(
        "--path", metavar="GLOB", action="append", default=[], help="only files that match; may be repeated"
    )
    parser.add_argument(
        "--disk", metavar="MOUNT=FILE[@OFFSET]", action="append", default=[],
        help="fill what is missing below MOUNT from an image of its device, which begins at OFFSET",
    )  # fmt: skip
    add_ns_of(parser, FILES_OF)
    parser.add_argument(
        "--sandbox", action="store_true", default=argparse.SUPPRESS,
        help="give up everything but reading the image's folder, the disks' and the store, and changing the "
        "folder --out: other files, the network, other processes and programs",
    )  # fmt: skip
    add_root_of(parser)
    add_store(parser)
    add_fetch(parser)
    add_kernel_at(parser)
    parser.set_defaults(execute=recover_command)


def _confine(args: argparse.Namespace, disks: Sequence[Disk]) -> OutsideBoots:
    """Before the image is opened. OptionError, HostLacks, RecoverError."""
    from pathlib import Path

    from hybridbridge_vol.cli.sandbox import confine_command, refuse_fetch
    from hybridbridge_vol.workflow.recover.output import FolderTarget

    refuse_fetch(args)
    if args.out.endswith(".tar"):
        raise OptionError("--sandbox writes to a folder of its own: name one with --out, not an archive")
    FolderTarget(Path(args.out))  # makes it
    return confine_command(args, [disk.path for disk in disks], [args.out])


def recover_command(args: argparse.Namespace) -> int:
    """`hb recover DUMP --out PATH`"""
    from pathlib import Path

    from hybridbridge_vol.workflow.recover.guest_disk import Disk
    from hybridbridge_vol.workflow.recover.recover import Selection, recover

    disks = [Disk.parse(text) for text in args.disk]
    boots = _confine(args, disks) if hasattr(args, "sandbox") else None
    with (
        Progress() as progress,
        opened(args, progress, boots=boots) as session,
    ):
        summary = recover(session, Path(args.out), Selection(tuple(args.path)), disks)
    print(
        f"{args.out}: {summary.files:,} files, {summary.complete:,} complete, "
        f"{summary.recovered_bytes:,} bytes recovered"
    )
    if not summary.parquet:
        complain("pyarrow is not installed: the manifest was written as CSV only")
    if summary.complete < summary.files:
        complain(f"{args.dump}: {summary.files - summary.complete:,} files are incomplete; see the manifest")
    return OK if summary.complete == summary.files else PARTIAL
