"""`hb exec`: a program of this machine, whose questions about the system the image answers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from hybridbridge_vol.cli.arguments import DUMP_HELP, add_fetch, add_kernel_at, add_ns_of, add_store, seconds
from hybridbridge_vol.cli.console import complain, opened
from hybridbridge_vol.progress import Progress

_MOST_FAILURES = 3
"""Reasons that are shown."""


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Run a program of this machine, unmodified, on an image: what it asks about the system the image's "
        "kernel answers; its own memory, libraries and terminal stay here. It is confined (seccomp, "
        "Landlock): it opens no file of this machine but its own code and data, writes nothing, and has no "
        "network. Nothing of the image is executed. The exit status is the program's. Time stands still."
    )
    parser.epilog = (
        "examples:\n"
        "  hb exec dump.raw -- ps aux\n"
        "  hb exec dump.raw -- ss -tanp > sockets.txt\n"
        "  hb exec dump.raw --ns-of 2301 -- ip addr    # as seen by a process: a container's\n"
        "  hb exec dump.raw -- bash -c 'cd /proc/1; cat status | head -3'"
    )
    parser.add_argument("dump", metavar="DUMP", help=DUMP_HELP)
    parser.add_argument("program", metavar="PROGRAM", nargs="+", help="program and arguments, after a --")
    parser.add_argument(
        "--user-mode",
        choices=("native", "emulated"),
        default="native",
        help="run the program on this machine's processor, or in an emulator: for machines that cannot "
        "confine it, and others than x86-64; single-threaded x86-64 programs that start no others",
    )
    add_program_options(parser)


def add_program_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that runs programs on an image."""
    add_ns_of(parser)
    parser.add_argument(
        "--tools",
        metavar="DIR",
        default=None,
        help="look here for programs first: a folder of programs, or one with usr/bin and usr/lib",
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        type=_variable,
        default=[],
        help="a variable for the program, which gets none of yours but TERM and its like",
    )
    parser.add_argument(
        "--seconds", metavar="N", type=seconds, default=None, help="end the program after so many seconds"
    )
    add_store(parser)
    add_fetch(parser)
    add_kernel_at(parser)
    parser.set_defaults(execute=exec_command)


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"not NAME=VALUE: {text!r}")
    return name, value


def exec_command(args: argparse.Namespace) -> int:
    """`hb exec DUMP -- PROGRAM ARGUMENT...`"""
    return run_on_image(args, args.program, args.user_mode)


def run_on_image(args: argparse.Namespace, arguments: Sequence[str], user_mode: str = "native") -> int:
    """Run a program, and end as it did."""
    from hybridbridge_vol.native.run import Options, check_host, run_program

    check_host(user_mode)
    with (
        Progress() as progress,
        opened(args, progress) as session,
    ):
        progress.clear()
        sys.stdout.flush()
        ended = run_program(
            session,
            arguments,
            options=Options(
                args.tools,
                dict(args.env),
                args.seconds,
                user_mode=user_mode,
                on_sleep=lambda: complain(f"{args.dump}: time stands still: sleeps end at once"),
            ),
        )
    _show(args.dump, ended.failures)
    return _end_like(ended.status)


def _show(dump: str, failures: Mapping[str, str]) -> None:
    for number_shown, (asked, reason) in enumerate(failures.items()):
        if number_shown == _MOST_FAILURES:
            complain(f"{dump}: {len(failures) - number_shown} more questions could not be answered")
            return
        complain(f"{dump}: not answered: {asked}: {reason}")


def _end_like(status: int) -> int:
    """The program's exit status; if a signal ended it, the same one ends this process."""
    if status >= 0:
        return status
    sys.stdout.flush()
    signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -status)
    return 128 - status
