"""`hb run`: one tool on one image.

A tool declares its own options in its class (tools/NAME.py, `Option` in toolkit/tool.py).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from hybridbridge_vol import tools
from hybridbridge_vol.allowance import (
    ANSWER_MEMORY,
    ANSWER_SECONDS,
    LONG_ANSWER_MEMORY,
    LONG_ANSWER_SECONDS,
    SLOWER_UNDER_TAINT,
)
from hybridbridge_vol.cli.arguments import (
    DUMP_HELP,
    HelpFormatter,
    add_command,
    add_fetch,
    add_format,
    add_kernel_at,
    add_ns_of,
    add_root_of,
    add_store,
    count,
    mentioned,
    number,
    seconds,
)
from hybridbridge_vol.cli.console import (
    FAILED,
    OK,
    PARTIAL,
    complain,
    format_of,
    opened,
)
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.progress import Progress
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Option, Options, Raw, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.cli.arguments import Commands
    from hybridbridge_vol.cli.sandbox import OutsideBoots
    from hybridbridge_vol.guest.session import Session

BRIDGES = ("auto", "fast", "slow")


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> None:
    """See `main.Command`. Of the tools only those among `arguments` are loaded."""
    parser.description = (
        "Run a tool on a memory image. The rows are those of Volatility's plugin hb.TOOL, without "
        "Volatility's start-up."
    )
    parser.epilog = (
        "examples:\n"
        "  hb run dump.raw ps --tree\n"
        "  hb run dump.raw ps --format json | jq -r '.[] | select(.UID == 0) | .CMD'\n"
        "  hb run dump.raw cat /proc/1/status\n"
        "  hb run dump.raw netstat -tulpan --ns-of 2301\n"
        "  hb run dump.raw ps --help               the options and columns of one tool\n\n"
        "exit status: 0 complete, 1 error, 2 wrong usage, 3 some rows could not be read and say why"
    )
    parser.add_argument("dump", metavar="DUMP", help=DUMP_HELP)
    _add_options_of_every_tool(parser)
    made = parser.add_subparsers(title="tools", metavar="TOOL", required=True, prog="hb run DUMP")
    for name in mentioned(tools.NAMES, arguments):
        _add_tool(made, tools.load(name))
    parser.set_defaults(execute=run_command)


def _add_options_of_every_tool(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("options of every tool")
    add_format(group)
    add_store(group)
    add_fetch(group)
    add_kernel_at(group)
    group.add_argument(
        "--bridge", choices=BRIDGES, default=argparse.SUPPRESS,
        help="auto: run proven code at full speed, prove new code under taint (default); slow: prove every "
        "call for this image; fast: run proven code only, and name the function that has no memo",
    )  # fmt: skip
    add_ns_of(group)
    add_root_of(group)
    group.add_argument(
        "--max-seconds", type=seconds, metavar="SECONDS", default=argparse.SUPPRESS,
        help="processor time after which a tool ends with the rows that it has: by default "
        f"{ANSWER_SECONDS:g} s, and {LONG_ANSWER_SECONDS:g} s of tools that look at each file or page; "
        f"{SLOWER_UNDER_TAINT} times as long with --bridge slow",
    )  # fmt: skip
    group.add_argument(
        "--max-memory", type=count, metavar="MIB", default=argparse.SUPPRESS,
        help="the same for memory, not counting the image's file: by default "
        f"{ANSWER_MEMORY >> 20} MiB, and {LONG_ANSWER_MEMORY >> 20} MiB of those tools",
    )  # fmt: skip
    group.add_argument(
        "--sandbox", action="store_true", default=argparse.SUPPRESS,
        help="give up everything but reading the image's folder and the store: other files, writing, the "
        "network, other processes and programs; on one processor, and what is proven is not kept",
    )  # fmt: skip
    group.add_argument(
        "--provenance", action="store_true", default=argparse.SUPPRESS,
        help="add to each row the image offsets of the bytes it was made from (implies --bridge slow)",
    )  # fmt: skip
    group.add_argument(
        "--stats", action="store_true", default=argparse.SUPPRESS,
        help="print the bridge's statistics on standard error: calls, traps, instructions, newly proven code",
    )  # fmt: skip


def _add_tool(commands: Commands, tool: Tool) -> None:
    width = max(len(column.name) for column in tool.columns)
    columns = "\n".join(f"  {column.name:{width}}  {column.help}" for column in tool.columns)
    parser = add_command(commands, tool.name, tool.help)
    parser.description = f"{tool.help}.\n\n{tool.notes}".rstrip()
    parser.epilog = f"columns:\n{columns}\n\nexample:\n  {example_of(tool)}"
    for option in tool.options:
        _add_option(parser, option)
    _add_options_of_every_tool(parser)
    parser.set_defaults(tool=tool)


def example_of(tool: Tool) -> str:
    """A command line that shows the tool at its best."""
    return f"hb run dump.raw {tool.name} {tool.example}".rstrip()


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    dest = destination(option)
    names = [f"-{option.short}"] * bool(option.short) + [f"--{option.name}"]
    if option.type is bool:
        parser.add_argument(*names, dest=dest, action="store_true", help=option.help)
        return
    convert = number if option.type is int else str
    metavar = "N" if option.type is int else option.name.upper()
    if option.positional:
        parser.add_argument(
            dest, type=convert, nargs="+" if option.many else None, metavar=metavar, help=option.help
        )
    elif option.many:
        parser.add_argument(
            *names, dest=dest, type=convert, nargs="+", action="extend", metavar=metavar,
            help=f"{option.help} (may be repeated)",
        )  # fmt: skip
    else:
        parser.add_argument(*names, dest=dest, type=convert, metavar=metavar, help=option.help)


def destination(option: Option) -> str:
    """The attribute of the parsed arguments that holds a tool's option."""
    return f"tool_{option.name}"


def options_of(args: argparse.Namespace) -> Options:
    """The options of the tool `args.tool`, as the tool takes them."""
    tool: Tool = args.tool
    values = {option.name: getattr(args, destination(option)) for option in tool.options}
    many = [option.name for option in tool.options if option.many]
    return values | {name: tuple(values[name] or ()) for name in many}


def parse_tool(words: Sequence[str]) -> argparse.Namespace:
    """Parse a tool with its options, as typed after `hb run DUMP`. OptionError instead of a message and an
    exit."""
    parser = _RaisingParser(prog="hb run", formatter_class=HelpFormatter, allow_abbrev=False, add_help=False)
    add_arguments(parser, words)
    return parser.parse_args(["DUMP", *words])


class _RaisingParser(argparse.ArgumentParser):
    """A parser, as are those of its sub-commands, that raises OptionError for what it cannot understand."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(message)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise OptionError(message or "not a run of a tool")


def run_command(args: argparse.Namespace) -> int:
    """`hb run DUMP TOOL`"""
    mode = "slow" if hasattr(args, "provenance") else getattr(args, "bridge", "auto")
    boots = _confine(args) if hasattr(args, "sandbox") else None
    with (
        Progress() as progress,
        opened(args, progress, mode, boots) as session,
    ):
        progress.clear()
        session.allowance.seconds = getattr(args, "max_seconds", None)
        session.allowance.memory = getattr(args, "max_memory", 0) << 20 or None
        try:
            return _answer(args, session)
        finally:
            if hasattr(args, "stats"):
                sys.stdout.flush()
                sys.stderr.writelines(f"{line}\n" for line in session.statistics.lines())


def _confine(args: argparse.Namespace) -> OutsideBoots:
    """Before the image is opened. OptionError, HostLacks."""
    from hybridbridge_vol.cli.sandbox import begin_file, confine_command, refuse_fetch

    tool: Tool = args.tool
    refuse_fetch(args)
    options = options_of(args)
    read = [options[option.name] for option in tool.options if option.of_this_machine]
    written = [options[option.name] for option in tool.options if option.is_written and options[option.name]]
    for path in written:
        begin_file(path)
    return confine_command(args, read, written)


def _answer(args: argparse.Namespace, session: Session) -> int:
    tool: Tool = args.tool
    options, form = options_of(args), format_of(args)
    if hasattr(args, "provenance"):
        from hybridbridge_vol.toolkit.provenance import with_provenance

        tool = with_provenance(tool)
    if isinstance(tool, Raw) and form == "text" and tool.wants_raw(options, sys.stdout.isatty()):
        return _write_raw(args.dump, tool, session, options)
    if _write_table(tool, session, options, form):
        return OK
    complain(f"{args.dump}: some rows are incomplete; each says why")
    return PARTIAL


def _write_table(tool: Tool, session: Session, options: Options, form: str) -> bool:
    """Write the rows to standard output; whether all could be read."""
    from hybridbridge_vol.toolkit import render

    answer = render.answer_of(tool, session, options)
    if form == "text":
        answer = answer._replace(rows=tool.for_table(answer.rows))
    if form == "text" and sys.stdout.isatty():
        return render.write_text(answer, sys.stdout, width=os.get_terminal_size(sys.stdout.fileno()).columns)
    return render.WRITERS[form](answer, sys.stdout)


def _write_raw(dump: str, tool: Raw, session: Session, options: Options) -> int:
    """Write bytes to standard output, on a terminal with control characters escaped; the exit status."""
    from hybridbridge_vol.toolkit.printable import safe

    wrote = failed = False
    for chunk in tool.raw(session, options):
        if isinstance(chunk, Unavailable):
            failed = True
            sys.stdout.flush()
            complain(f"{dump}: {chunk.reason}")
            continue
        wrote = True
        if sys.stdout.isatty():
            sys.stdout.write(safe(chunk))
        else:
            sys.stdout.buffer.write(chunk)
    return OK if not failed else PARTIAL if wrote else FAILED
