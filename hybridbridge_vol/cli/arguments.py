"""What the parsers of several commands share: the look of their help, common options, and types of values."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    """What `ArgumentParser.add_subparsers` returns."""
    Group = argparse.ArgumentParser | argparse._ArgumentGroup
    """What arguments can be added to."""

FORMATS = ("text", "json", "csv")
WIDEST_HELP = 100
NARROWEST_HELP = 40
DUMP_HELP = "memory image: raw, LiME, ELF core, kdump, AVML, VMware, QEMU savevm or virsh save"
KERNEL_NAME_HELP = "the kernel's name in `hb trust list`, or the beginning of it"

_TABLE_LINE = re.compile(r" +\S+ {2,}(?=[^\s#])")
"""The first column of a line in a two-column list, with the gap behind it; a comment is not a second
column."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs and two-column lists to the terminal's width; leaves examples as they are.

    The width is found without `shutil`, which argparse would load even when no help is shown.
    """

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or WIDEST_HELP
        except ValueError:
            columns = os.get_terminal_size().columns if sys.stdout.isatty() else WIDEST_HELP
        super().__init__(prog, width=max(NARROWEST_HELP, min(columns - 2, WIDEST_HELP)))

    def add_argument(self, action: argparse.Action) -> None:
        """Also makes room for the names of sub-commands, whose indentation argparse forgets to count."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            longest = max(map(len, action.choices), default=0)
            self._action_max_length = max(self._action_max_length, longest + 2 * self._indent_increment)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(wrapped(line, width) for line in text.splitlines())


def wrapped(line: str, width: int) -> str:
    """One line of a help text, wrapped: a paragraph, or an entry of a two-column list under its second
    column. Other indented lines are examples to be copied: they stay whole."""
    from textwrap import fill

    entry = _TABLE_LINE.match(line)
    if line.startswith(" ") and entry is None:
        return line
    indent = " " * (entry.end() if entry else 0)
    return fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def add_command(commands: Commands, name: str, help: str) -> argparse.ArgumentParser:
    """A parser for one command (or action, or tool), with one line of help for the list of its siblings."""
    return commands.add_parser(name, help=help, formatter_class=HelpFormatter, allow_abbrev=False)


def mentioned(names: Sequence[str], arguments: Sequence[str] | None) -> Sequence[str]:
    """Those of `names` that are among the arguments, so that only their modules are loaded. All of them if
    none is, because then the answer lists them, and if `arguments` is None."""
    return [name for name in names if name in (arguments or ())] or names


def add_format(parser: Group, formats: Sequence[str] = FORMATS) -> None:
    """`--format`; read it with `console.format_of`."""
    parser.add_argument(
        "--format", choices=formats, default=argparse.SUPPRESS, help="output format (default: text)"
    )


def add_store(parser: Group) -> None:
    """`--store`; read it with `console.store_root`."""
    parser.add_argument(
        "--store", metavar="DIR", default=argparse.SUPPRESS,
        help="directory of trusted kernels (default: ~/.cache/hybridbridge/trust)",
    )  # fmt: skip


def add_fetch(parser: Group) -> None:
    """`--fetch`; `console.opened` reads it."""
    parser.add_argument(
        "--fetch", action="store_true", default=argparse.SUPPRESS,
        help="if the kernel is not trusted yet, fetch its package and trust it, as `hb trust get` does",
    )  # fmt: skip


def add_kernel_at(parser: Group) -> None:
    """`--kernel-at`; read it with `console.kernel_at`."""
    parser.add_argument(
        "--kernel-at", type=number, metavar="PADDR", default=argparse.SUPPRESS,
        help="of several kernels in the image answer for the one at this physical address (`hb info` lists "
        "them; default: the one that ran)",
    )  # fmt: skip


FILES_OF = "files as seen by this process: a container's"
ALL_OF = "answer from inside the namespaces of this process (a container's), as nsenter --all does"


def add_ns_of(parser: Group, meaning: str = ALL_OF) -> None:
    """`--ns-of`; the arguments have `ns_of` only where it was given."""
    parser.add_argument("--ns-of", type=number, metavar="PID", default=argparse.SUPPRESS, help=meaning)


def add_root_of(parser: Group) -> None:
    """`--root-of`; read it with `console.root_of`."""
    parser.add_argument(
        "--root-of", type=number, metavar="PID", default=argparse.SUPPRESS,
        help="files outside of /proc and /sys as seen from the root directory of this process (after chroot "
        "or pivot_root), without its namespaces; with --ns-of the PID inside of them",
    )  # fmt: skip


def number(text: str) -> int:
    """An integer, decimal or with a prefix such as 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None


def count(text: str) -> int:
    """A decimal integer above 0."""
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"not a number above 0: {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A duration: above 0 and below 1,000,000 seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return value
