"""`hb memo`: the proven code of stored kernels, shown and moved between machines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import KERNEL_NAME_HELP, add_command, add_format, add_store
from hybridbridge_vol.cli.console import OK, for_each, format_of, open_store


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "The memo of a kernel lists the code that SLOW-BRIDGE has proven under taint; FAST-BRIDGE runs "
        "nothing else. It is a file of some kilobytes. Memos of one kernel build from several machines can "
        "be merged."
    )
    parser.epilog = (
        "examples:\n"
        "  hb memo show\n"
        "  hb memo export lab1.memo && scp lab1.memo lab2:\n"
        "  hb memo import lab1.memo"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, prog="hb memo")

    show = add_command(actions, "show", "show how much is proven for each stored kernel")
    show.add_argument("name", metavar="NAME", nargs="?", help=f"only this kernel: {KERNEL_NAME_HELP}")
    add_format(show)
    show.set_defaults(execute=memo_show_command)

    export = add_command(actions, "export", "write a kernel's memo to a file")
    export.add_argument("file", metavar="FILE", help="file to write")
    export.add_argument(
        "--kernel", metavar="NAME", help=f"needed if several kernels have a memo: {KERNEL_NAME_HELP}"
    )
    export.set_defaults(execute=memo_export_command)

    merge = add_command(actions, "import", "merge memo files into the stored memos")
    merge.add_argument("files", metavar="FILE", nargs="+", help="files that `hb memo export` wrote")
    merge.set_defaults(execute=memo_import_command)

    clear = add_command(actions, "clear", "remove memos: everything is proven again")
    clear.add_argument("name", metavar="NAME", nargs="?", help=f"only this kernel's: {KERNEL_NAME_HELP}")
    clear.set_defaults(execute=memo_clear_command)

    for action in (show, export, merge, clear):
        add_store(action)


def memo_show_command(args: argparse.Namespace) -> int:
    """`hb memo show [NAME]`"""
    from hybridbridge_vol.cli.report import write_records
    from hybridbridge_vol.workflow import memos

    write_records(memos.summarise(open_store(args), args.name), format_of(args), sys.stdout)
    return OK


def memo_export_command(args: argparse.Namespace) -> int:
    """`hb memo export FILE`"""
    from pathlib import Path

    from hybridbridge_vol.workflow import memos

    kernel = memos.export_memo(open_store(args), Path(args.file), args.kernel)
    print(f"{kernel}: exported to {args.file}")
    return OK


def memo_import_command(args: argparse.Namespace) -> int:
    """`hb memo import FILE…`"""
    from pathlib import Path

    from hybridbridge_vol.workflow import memos

    store = open_store(args)
    return for_each(args.files, lambda path: f"{memos.import_memo(store, Path(path))}: {path} added")


def memo_clear_command(args: argparse.Namespace) -> int:
    """`hb memo clear [NAME]`"""
    from hybridbridge_vol.workflow import memos

    for name in memos.clear(open_store(args), args.name):
        print(f"{name}: memo removed")
    return OK
