"""The command line of the maker of sample images: `python3 -m samples`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from samples import attack_guest, make, module_guest

MOST_PROCESSES = 30000
"""A kernel has 32768 PIDs (PID_MAX_DEFAULT, include/linux/threads.h)."""

MOST_ROUTES = 49152
"""As many networks of 24 bits as guest/network.sh has room for."""


def parse_size(text: str) -> int:
    """Bytes of "256M", "4608M" or "4G"."""
    match = re.fullmatch(r"(\d+)([MG])", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text}: a size is a number with M or G, as 256M")
    return int(match[1]) << (20 if match[2] == "M" else 30)


def number(first: int, last: int) -> Callable[[str], int]:
    """What reads a number from `first` to `last`."""

    def read(text: str) -> int:
        if not text.isdecimal() or not first <= int(text) <= last:
            raise argparse.ArgumentTypeError(f"{text}: a number from {first} to {last}")
        return int(text)

    return read


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    result = argparse.ArgumentParser(
        prog="python3 -m samples",
        description=make.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--kernel", default="6.1-cloud", help="a .deb, a package's name, or a short name as 6.1-cloud"
    )
    result.add_argument(
        "--seed", type=int, default=1, help="what the workload draws from (KASLR draws its own)"
    )
    result.add_argument(
        "--ram", type=parse_size, default=256 << 20, help="memory of the guest (default: 256M)"
    )
    result.add_argument("--cpus", type=number(1, 64), default=1, help="processors of the guest (default: 1)")
    result.add_argument("--nokaslr", action="store_true", help="boot at the linked address")
    result.add_argument("--light", action="store_true", help="a dozen processes instead of many")
    result.add_argument(
        "--processes", type=number(0, MOST_PROCESSES), default=0, metavar="N", help="add N sleeping processes"
    )
    result.add_argument("--disks", action="store_true", help="disks with file systems of every kind (512M)")
    result.add_argument(
        "--memory", action="store_true", help="add a process with huge, merged, locked and swapped pages"
    )
    result.add_argument(
        "--nodes",
        type=number(1, 8),
        default=1,
        metavar="N",
        help="NUMA nodes that share the memory (default: 1)",
    )
    result.add_argument(
        "--routes", type=number(0, MOST_ROUTES), default=0, metavar="N",
        help="add N routes, and links, rules and sockets of every kind",
    )  # fmt: skip
    result.add_argument(
        "--people", action="store_true",
        help="accounts, logins, what starts by itself, and containers, instead of the workload",
    )  # fmt: skip
    result.add_argument("--la57", action="store_true", help="5-level page tables")
    result.add_argument("--append", default="", metavar="WORDS", help="more for the kernel's command line")
    result.add_argument(
        "--format", choices=sorted(make.FORMATS), default="raw", help="also save as this (default: raw)"
    )
    result.add_argument(
        "--accel", choices=("tcg", "kvm"), default="tcg", help="how QEMU runs the guest (default: tcg)"
    )
    result.add_argument(
        "--modules",
        choices=sorted(module_guest.SETS),
        default="",
        help="load modules instead of working: those of a server, or all of the kernel package (give 2G)",
    )
    result.add_argument(
        "--attacks", choices=sorted(attack_guest.SETS), default="",
        help="a kernel that a rootkit of ours has attacked in every way, or the same guest without it",
    )  # fmt: skip
    result.add_argument("--out", type=Path, metavar="PATH", help="leave a symbolic link to the folder there")
    return result


def leave_link(link: Path, folder: Path) -> None:
    """Point `link` to the folder, in one step. SampleError if something else is there, or if it cannot be
    made."""
    try:
        if link.exists() and not link.is_symlink():
            raise make.SampleError(f"{link}: exists and is not a symbolic link; give another --out")
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.symlink_to(folder)
        os.replace(temporary, link)
    except OSError as error:
        raise make.SampleError(f"{link}: cannot be made ({error.strerror}); give another --out") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    args = parser().parse_args(arguments)
    spec = make.Spec(
        args.kernel, args.seed, args.ram, args.cpus, not args.nokaslr, args.light, args.append, args.format,
        args.processes, args.la57, args.accel, args.memory, args.nodes, args.disks, args.modules, args.routes,
        attacks=args.attacks, people=args.people,
    )  # fmt: skip
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that the guest is ended and its files removed
    try:
        sample = make.make_sample(spec)
        if args.out:
            leave_link(args.out, sample.folder)
    except make.SampleError as error:
        print(f"samples: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(sample.folder)
    return 0
