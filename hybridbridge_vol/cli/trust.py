"""`hb trust`: the store of trusted kernels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import (
    DUMP_HELP,
    KERNEL_NAME_HELP,
    add_command,
    add_format,
    add_kernel_at,
    add_store,
)
from hybridbridge_vol.cli.console import OK, complain, for_each, format_of, kernel_at, open_store
from hybridbridge_vol.progress import Progress


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "A trusted kernel is booted once, from its distribution's package, and stored. Take packages from a "
        "source that you trust, never from the machine under examination."
    )
    parser.epilog = (
        "examples:\n"
        "  hb trust get dump.raw\n"
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
        "paths",
        metavar="PATH",
        nargs="+",
        help="a vmlinuz, a vmlinux, a unified kernel image, libkrunfw, a .deb, .rpm, .apk or .pkg.tar.zst",
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

    get = add_command(actions, "get", "fetch and store the kernel of an image")
    get.description = (
        "Find out which kernel an image has, fetch its packages by the distribution's own client (apt, dnf, "
        "zypper, pacman, apk) if this machine has it, and add them. Nothing is installed. The client checks "
        "the signatures; that the package holds the image's very build is checked here. Lists of packages "
        "are kept in ~/.cache/hybridbridge/packages. What cannot be fetched is named, with the commands for "
        "a machine that can."
    )
    get.epilog = (
        "examples:\n"
        "  hb trust get dump.raw\n"
        '  hb trust get --banner "$(hb info dump.raw --format json | jq -r .banner)"'
    )
    what = get.add_mutually_exclusive_group(required=True)
    what.add_argument("dump", metavar="DUMP", nargs="?", help=DUMP_HELP)
    what.add_argument(
        "--banner", metavar="TEXT", help="the kernel's version line, where the image is on another machine"
    )
    add_store(get)
    add_kernel_at(get)
    get.set_defaults(execute=trust_get_command)

    listing = add_command(actions, "list", "list the stored kernels")
    add_format(listing)
    add_store(listing)
    listing.set_defaults(execute=trust_list_command)

    show = add_command(actions, "show", "show one kernel, and which of its functions the policy redirects")
    show.add_argument("name", metavar="NAME", help=KERNEL_NAME_HELP)
    add_format(show, ("text", "json"))
    add_store(show)
    show.set_defaults(execute=trust_show_command)

    export = add_command(actions, "export", "write kernels to a file, for a machine without a network")
    export.description = (
        "Write kernels with their modules and memos to one file. The SHA-256 that is printed is for whoever "
        "imports it."
    )
    export.epilog = "example:\n  hb trust export 6.1.0-40-cloud-amd64 --out kernels.tar"
    export.add_argument("names", metavar="NAME", nargs="+", help=KERNEL_NAME_HELP)
    export.add_argument("--out", metavar="FILE", required=True, help="file to write")
    add_store(export)
    export.set_defaults(execute=trust_export_command)

    merge = add_command(actions, "import", "add the kernels of a file that `hb trust export` wrote")
    merge.description = (
        "Compare the whole file with its sums, then boot and store its kernels. Sums find damage, not a "
        "forger: import what comes from somebody whom you trust as you trust a package's signature."
    )
    merge.epilog = "example:\n  sha256sum kernels.tar && hb trust import kernels.tar"
    merge.add_argument("files", metavar="FILE", nargs="+", help="files that `hb trust export` wrote")
    add_store(merge)
    merge.set_defaults(execute=trust_import_command)

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


def trust_get_command(args: argparse.Namespace) -> int:
    """`hb trust get DUMP`"""
    from hybridbridge_vol.workflow import trust_get

    store = open_store(args)
    with Progress() as progress:
        if args.banner is not None:
            gotten = trust_get.trust_banner(store, args.banner, progress)
        else:
            gotten = trust_get.trust_kernel_of(store, args.dump, progress, kernel_at(args))
    print(gotten)
    return OK


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


def trust_export_command(args: argparse.Namespace) -> int:
    """`hb trust export NAME… --out FILE`"""
    from hashlib import file_digest
    from pathlib import Path

    from hybridbridge_vol.workflow.carry_kernels import export_kernels

    for name in export_kernels(open_store(args), args.names, Path(args.out)):
        print(f"{name}: exported to {args.out}")
    with open(args.out, "rb") as stream:
        print(f"{args.out}: SHA-256 {file_digest(stream, 'sha256').hexdigest()}")
    return OK


def trust_import_command(args: argparse.Namespace) -> int:
    """`hb trust import FILE…`"""
    from pathlib import Path

    from hybridbridge_vol.workflow.carry_kernels import import_kernels

    store = open_store(args)

    def take_in(path: str) -> str:
        with Progress() as progress:
            return "\n".join(f"{name}: trusted" for name in import_kernels(store, Path(path), progress))

    return for_each(args.files, take_in)


def trust_rm_command(args: argparse.Namespace) -> int:
    """`hb trust rm NAME…`"""
    store = open_store(args)
    for name in args.names:
        store.remove(name)
        print(f"{name}: removed")
    return OK
