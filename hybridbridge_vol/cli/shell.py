"""`hb shell`: an interactive shell in an image."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Sequence

from hybridbridge_vol.cli.arguments import DUMP_HELP
from hybridbridge_vol.cli.exec import add_program_options, run_on_image
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.toolkit.printable import printable

_SHELLS = {"bash": ("--noprofile", "--norc", "-i"), "busybox": ("sh", "-i"), "dash": ("-i",)}
"""In the order in which they are looked for."""


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Run a shell of this machine (bash, busybox or dash) in an image, as 'hb exec' runs any program: "
        "files, processes and sockets are the image's, programs are this machine's. The prompt names the "
        "image. Time stands still there, nothing can be changed, and nothing of the image is executed."
    )
    parser.epilog = (
        "example:\n  $ hb shell dump.raw\n  dump.raw (at capture) / # cd /proc/1; ls -l exe; ss -tanp | wc -l"
    )
    parser.add_argument("dump", metavar="DUMP", help=DUMP_HELP)
    add_program_options(parser)
    parser.set_defaults(execute=shell_command)


def shell_command(args: argparse.Namespace) -> int:
    """`hb shell DUMP`"""
    name = next((name for name in _SHELLS if shutil.which(name)), None)
    if name is None:
        raise OptionError(f"none of {', '.join(_SHELLS)} is installed")
    prompt = printable(os.path.basename(args.dump)).replace("\\", "").replace("$", "").replace("`", "")
    args.env.append(
        ("PS1", f"{prompt} (at capture) \\w # " if name == "bash" else f"{prompt} (at capture) # ")
    )
    group = os.getpgrp()
    try:
        return run_on_image(args, (name, *_SHELLS[name]))
    finally:
        _take_terminal_back(group)


def _take_terminal_back(group: int) -> None:
    """The shell made groups of processes that had the terminal."""
    if sys.stdin.isatty():
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            os.tcsetpgrp(sys.stdin.fileno(), group)
        signal.signal(signal.SIGTTOU, before)
