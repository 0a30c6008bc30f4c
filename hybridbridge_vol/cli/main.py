"""`hb`: finds the command that was asked for, runs it, and turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn, Protocol, cast

from hybridbridge_vol import __version__
from hybridbridge_vol.cli.arguments import HelpFormatter, add_command
from hybridbridge_vol.cli.console import FAILED, INTERRUPTED, PIPE_CLOSED, complain
from hybridbridge_vol.errors import HybridBridgeError, error_text
from hybridbridge_vol.short_run import search_seldom

COMMANDS = {
    "info": "identify a memory image and find the trusted kernel that fits it",
    "run": "run a tool on an image: processes, sockets, modules, files of /proc and /sys",
    "exec": "run an unmodified program of this machine on an image: ps, ss, ip, lsof ...",
    "shell": "run an interactive shell in an image",
    "recover": "store the content of the guest's files, with a manifest",
    "mount": "mount the guest's files read-only",
    "trust": "fetch, add, list, show, carry and remove trusted kernels",
    "memo": "show, export, import and clear what was proven about a kernel's code",
    "train": "run all tools on images, so that later runs meet no unproven code",
    "isf": "write a kernel's symbol table for Volatility's own linux.* plugins",
    "batch": "run tools on many images and write one dataset",
    "regress": "record the answers on some images and report later when one changes",
    "completion": "print the completion script for bash or zsh",
}
"""The commands, each the module of that name in this package, with their line in `hb --help`."""

ABOUT = """\
Analyse a Linux memory image by running the kernel's own code on it. The kernel comes from the \
distribution's package: no debug symbols, no profile.
"""

EXAMPLES = """\
first steps:
  hb info dump.raw                        which kernel is this, and which package holds it?
  hb trust get dump.raw                   fetch that package, boot its kernel once and store it
  hb trust add linux-image-*.deb          the same with a package that you have
  hb run dump.raw ps                      the processes at capture time
  hb run dump.raw --help                  all tools
  hb run dump.raw ps --help               the options and columns of one tool
"""


class Command(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> None:
        """Give the command's parser its arguments, help and `execute`, the function that does its work.
        `arguments` is the whole command line; None: the parser must be complete, for documentation."""


def parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of `hb`. With `arguments` only the commands and tools that are named there are loaded."""
    top = argparse.ArgumentParser(
        prog="hb", description=ABOUT, epilog=EXAMPLES, formatter_class=HelpFormatter, allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"hb {__version__}")
    top.add_argument("--debug", action="store_true", help="show a traceback for an error")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="hb")
    for name, line in COMMANDS.items():
        made = add_command(commands, name, line)
        if arguments is None or name in arguments:
            command = cast(Command, import_module(f"hybridbridge_vol.cli.{name}"))
            command.add_arguments(made, arguments)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hb` with these arguments (the process's own by default) and return its exit status."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        from hybridbridge_vol.cli.completion import complete

        complete(parser)
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parser(arguments).parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # the terminal's character set may lack the guest's letters
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_place: complain(str(message))
    execute: Callable[[argparse.Namespace], int] = args.execute
    try:
        status = execute(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        if args.debug:
            raise
        text = error_text(error, getattr(args, "dump", None))
        if not isinstance(error, (HybridBridgeError, OSError)):
            text += f" ({type(error).__name__}, a bug: repeat with `hb --debug` to see where)"
        complain(text)
        return FAILED


def program() -> NoReturn:
    """The program `hb`, in a process of its own."""
    search_seldom()
    status = main()
    search_seldom()  # nor what was loaded since
    sys.exit(status)


if __name__ == "__main__":
    program()
