"""`hb trust`: the store of trusted kernels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import KERNEL_NAME_HELP, add_command, add_format, add_store
from hybridbridge_vol.cli.console import OK, complain, for_each, format_of, open_store
from hybridbridge_vol.progress import Progress


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "A trusted kernel is booted once, from its distribution's package, and stored. Take packages from a "
        "source that you trust, never from the machine under examination."
    )
    parser.epilog = (
        "examples:\n"
        "  apt-get download linux-image-6.1.0-40-amd64 && hb trust add linux-image-*.deb\n"
        "  hb trust list"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, prog="hb trust")

    add = add_command(actions, "add", "boot a kernel and store it")
    add.description = (
        "Boot each kernel and store its state and its modules. That takes some seconds for each kernel "
        "build, once. The first questions about an image then take a second or two longer than the next, "
        "because the code that answers them is proven; --train does that now, in about as much time again. "
        "Modules in a package of their own are added to their kernel when it is stored already. A kernel "
        "built without CONFIG_KALLSYMS_ALL needs the System.map of its build."
    )
    add.epilog = (
        "examples:\n"
        "  hb trust add linux-image-6.1.0-40-cloud-amd64_*.deb\n"
        "  hb trust add vmlinux-of-a-microvm --symbols System.map"
    )
    add.add_argument(
        "paths", metavar="PATH", nargs="+", help="a vmlinuz, a vmlinux, a .deb, a .rpm, or libkrunfw"
    )
    add.add_argument(
        "--symbols", metavar="FILE", default=argparse.SUPPRESS,
        help="System.map or vmlinux of the same build, for a kernel that names its functions only",
    )  # fmt: skip
    add.add_argument(
        "--train", action="store_true", help="also prove most of the code that tools need, on a second boot"
    )
    add_store(add)
    add.set_defaults(execute=trust_add_command)

    listing = add_command(actions, "list", "list the stored kernels")
    add_format(listing)
    add_store(listing)
    listing.set_defaults(execute=trust_list_command)

    show = add_command(actions, "show", "show one kernel, and which of its functions the policy redirects")
    show.add_argument("name", metavar="NAME", help=KERNEL_NAME_HELP)
    add_format(show, ("text", "json"))
    add_store(show)
    show.set_defaults(execute=trust_show_command)

    remove = add_command(actions, "rm", "remove kernels from the store")
    remove.add_argument("names", metavar="NAME", nargs="+", help=KERNEL_NAME_HELP)
    add_store(remove)
    remove.set_defaults(execute=trust_rm_command)


def trust_add_command(args: argparse.Namespace) -> int:
    """`hb trust add PATH…`"""
    from pathlib import Path

    from hybridbridge_vol.workflow.trust_kernel import enroll

    store = open_store(args)
    symbols = Path(args.symbols) if hasattr(args, "symbols") else None

    def add(path: str) -> str:
        with Progress() as progress:
            return f"{enroll(store, Path(path), progress, args.train, symbols).name}: trusted"

    return for_each(args.paths, add)


def trust_list_command(args: argparse.Namespace) -> int:
    """`hb trust list`"""
    from hybridbridge_vol.cli.report import write_records

    entries = open_store(args).entries()
    write_records(entries, format_of(args), sys.stdout, details=("banner", "build_id"))
    if not entries and format_of(args) == "text":
        complain("no trusted kernel is stored yet: add one with `hb trust add PATH`")
    return OK


def trust_show_command(args: argparse.Namespace) -> int:
    """`hb trust show NAME`"""
    from hybridbridge_vol.cli.report import write_facts
    from hybridbridge_vol.workflow.describe_kernel import describe_kernel

    write_facts(describe_kernel(open_store(args), args.name), format_of(args), sys.stdout)
    return OK


def trust_rm_command(args: argparse.Namespace) -> int:
    """`hb trust rm NAME…`"""
    store = open_store(args)
    for name in args.names:
        store.remove(name)
        print(f"{name}: removed")
    return OK
