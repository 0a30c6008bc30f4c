"""What `hb` understands: its commands, their options and their help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from hybridbridge_vol import __version__, tools
from hybridbridge_vol.toolkit.tool import Option, Tool

FORMATS = ("text", "json", "csv")
BRIDGES = ("auto", "fast", "slow")
WIDEST_HELP = 100

ABOUT = """\
Ask a Linux memory image by running the kernel's own code, booted from its distribution's package: no debug symbols.

  hb info dump.raw                        what is this image, and which kernel package does it need?
  hb trust add linux-image-*.deb          boot that kernel once and keep it
  hb run dump.raw ps                      the processes at the moment of the freeze
"""


CASES = """\
a file of cases:
  [moving]                                 # columns whose values are not compared, by tool
  ps = ["TIME", "%CPU"]

  [[case]]
  name = "web-01"
  image = "images/web-01.raw"              # relative to the file; or make = ["command", ...], which prints the path
  run = ["ps --tree", "netstat -tulpan"]   # as typed after `hb run IMAGE`
  without = {ps = {CMD = "kworker"}}       # rows left out, by a pattern
  unordered = ["netstat"]                  # rows compared in no order
"""


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these arguments: of the tools only those are loaded that are named among them.

    It leaves in `command` what was asked for ("run", "trust add", ...).
    """
    top = _parser(argparse.ArgumentParser, prog="hb", description=ABOUT)
    top.add_argument("--version", action="version", version=f"hb {__version__}")
    top.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="hb")
    _add_info(commands)
    _add_run(commands, [name for name in tools.NAMES if name in arguments] or tools.NAMES)
    _add_trust(commands)
    _add_memo(commands)
    _add_train(commands)
    _add_isf(commands)
    _add_batch(commands, arguments)
    _add_regress(commands)
    return top


class _Help(argparse.RawDescriptionHelpFormatter):
    """Finds the terminal's width without the module that argparse would load for it, even when no help is
    shown."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or WIDEST_HELP
        except ValueError:
            columns = os.get_terminal_size().columns if sys.stdout.isatty() else WIDEST_HELP
        super().__init__(prog, width=max(40, min(columns - 2, WIDEST_HELP)))


def _parser(make: Any, *args: str, **kwargs: Any) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = make(*args, formatter_class=_Help, allow_abbrev=False, **kwargs)
    return made


def _add_info(commands: Any) -> None:
    info = _parser(
        commands.add_parser,
        "info",
        help="what an image is and which trusted kernel fits",
        description="Say what a memory image is: format, kernel, layout, the moment of the freeze, and which stored\n"
        "trusted kernel fits it, or which package to fetch.",
        epilog="example:\n  hb info dump.raw\n  hb info dump.raw --format json | jq -r .banner",
    )
    info.add_argument("dump", metavar="DUMP", help="memory image: raw, LiME or ELF core")
    _add_format(info, ("text", "json"))
    _add_store(info)
    info.set_defaults(command="info")


def _add_run(commands: Any, names: Sequence[str]) -> None:
    run = _parser(
        commands.add_parser,
        "run",
        help="ask an image: processes, modules, any file of /proc and /sys",
        description="Run a tool on a memory image: the same tables as Volatility's hb.* plugins, without its start.",
        epilog="examples:\n"
        "  hb run dump.raw ps --tree\n"
        "  hb run dump.raw ps --format json | jq -r '.[] | select(.UID == 0) | .CMD'\n"
        "  hb run dump.raw cat /proc/1/status\n"
        "  hb run dump.raw ps --help               the options and columns of one tool\n\n"
        "exit status: 0 complete, 1 error, 2 wrong usage, 3 some rows say why they could not be read",
    )
    run.add_argument("dump", metavar="DUMP", help="memory image: raw, LiME or ELF core")
    _add_run_options(run)
    of_run = run.add_subparsers(title="tools", metavar="TOOL", required=True, prog="hb run DUMP")
    for name in names:
        _add_tool(of_run, tools.load(name))
    run.set_defaults(command="run")


def _add_tool(of_run: Any, tool: Tool) -> None:
    example = f"hb run dump.raw {tool.name} {tool.example}".rstrip()
    width = max(len(column.name) for column in tool.columns)
    described = "\n".join(
        f"  {column.name:{width}}  {_wrapped(column.help, width + 4)}" for column in tool.columns
    )
    made = _parser(
        of_run.add_parser,
        tool.name,
        help=tool.help,
        description=f"{tool.help}.\n\n{_wrapped(tool.notes)}".rstrip(),
        epilog=f"columns:\n{described}\n\nexample:\n  {example}",
    )
    for option in tool.options:
        _add_option(made, option)
    _add_run_options(made)
    made.set_defaults(tool=tool)


def _wrapped(text: str, indent: int = 0) -> str:
    """The text in lines of at most `WIDEST_HELP` columns, all but the first indented."""
    lines, line = [], ""
    for word in text.split():
        if line and indent + len(line) + 1 + len(word) > WIDEST_HELP:
            lines.append(line)
            line = ""
        line += f" {word}" if line else word
    return ("\n" + " " * indent).join([*lines, line])


def _add_option(made: argparse.ArgumentParser, option: Option) -> None:
    dest = dest_of(option)
    names = [f"-{option.short}"] * bool(option.short) + [f"--{option.name}"]
    if option.type is bool:
        made.add_argument(*names, dest=dest, action="store_true", help=option.help)
        return
    convert = _number if option.type is int else str
    metavar = "N" if option.type is int else option.name.upper()
    if option.positional:
        made.add_argument(
            dest, type=convert, nargs="+" if option.many else None, metavar=metavar, help=option.help
        )
    elif option.many:
        made.add_argument(
            *names,
            dest=dest,
            type=convert,
            nargs="+",
            action="extend",
            metavar=metavar,
            help=f"{option.help} (may be repeated)",
        )
    else:
        made.add_argument(*names, dest=dest, type=convert, metavar=metavar, help=option.help)


def _number(text: str) -> int:
    """A number, hexadecimal with 0x."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None


def dest_of(option: Option) -> str:
    """The attribute of the parsed arguments that holds a tool's option."""
    return f"tool_{option.name}"


def _add_run_options(made: argparse.ArgumentParser) -> None:
    _add_format(made, FORMATS)
    _add_store(made)
    made.add_argument(
        "--bridge",
        choices=BRIDGES,
        default=argparse.SUPPRESS,
        help="auto: run proven code, prove what is new (default); slow: prove every call under taint; "
        "fast: run proven code only, and name what is missing",
    )
    made.add_argument(
        "--ns-of",
        type=_number,
        metavar="PID",
        default=argparse.SUPPRESS,
        help="answer from inside the namespaces of this process (a container's), as nsenter --all does",
    )
    made.add_argument(
        "--provenance",
        action="store_true",
        default=argparse.SUPPRESS,
        help="tell for each row the bytes of the image that it came from (takes --bridge slow)",
    )
    made.add_argument(
        "--stats", action="store_true", default=argparse.SUPPRESS, help="tell on standard error what was run"
    )


def _add_format(made: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    made.add_argument(
        "--format", choices=formats, default=argparse.SUPPRESS, help="how to write the answer (default: text)"
    )


def _add_store(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--store",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where trusted kernels are kept (default: the user's cache directory)",
    )


def _add_trust(commands: Any) -> None:
    trust = _parser(
        commands.add_parser,
        "trust",
        help="add, list and remove trusted kernels",
        description="Trusted kernels are booted once, from their distribution's package, and kept.\n"
        "Take them from a source you trust, never from the machine under examination.",
        epilog="examples:\n"
        "  apt-get download linux-image-6.1.0-40-amd64 && hb trust add linux-image-*.deb\n"
        "  hb trust list",
    )
    actions = trust.add_subparsers(title="actions", metavar="ACTION", required=True, prog="hb trust")
    add = _parser(
        actions.add_parser,
        "add",
        help="boot a kernel and keep it",
        epilog="example:\n  hb trust add linux-image-6.1.0-40-cloud-amd64_*.deb",
    )
    add.add_argument("paths", metavar="PATH", nargs="+", help="a vmlinuz, a .deb or a .rpm")
    _add_store(add)
    add.set_defaults(command="trust add")
    listing = _parser(actions.add_parser, "list", help="the kernels in the store")
    _add_format(listing, FORMATS)
    _add_store(listing)
    listing.set_defaults(command="trust list")
    show = _parser(
        actions.add_parser,
        "show",
        help="all that is known of one kernel, and what the redirection policy finds in it",
    )
    show.add_argument("name", metavar="NAME", help="as `hb trust list` names it")
    _add_format(show, ("text", "json"))
    _add_store(show)
    show.set_defaults(command="trust show")
    rm = _parser(actions.add_parser, "rm", help="forget a kernel")
    rm.add_argument("names", metavar="NAME", nargs="+", help="as `hb trust list` names it")
    _add_store(rm)
    rm.set_defaults(command="trust rm")


def _add_memo(commands: Any) -> None:
    memo = _parser(
        commands.add_parser,
        "memo",
        help="what was proven about a kernel's code",
        description="The memo of a kernel holds the code that SLOW-BRIDGE has proven under taint; FAST-BRIDGE runs "
        "nothing else.\nIt is small, and memos of one kernel from several machines can be united.",
        epilog="examples:\n  hb memo show\n  hb memo export lab1.memo && scp lab1.memo lab2:\n  hb memo import lab1.memo",
    )
    actions = memo.add_subparsers(title="actions", metavar="ACTION", required=True, prog="hb memo")
    show = _parser(actions.add_parser, "show", help="how much is proven of each stored kernel")
    show.add_argument("name", metavar="NAME", nargs="?", help="as `hb trust list` names it")
    _add_format(show, FORMATS)
    show.set_defaults(command="memo show")
    export = _parser(actions.add_parser, "export", help="write a kernel's memo to a file")
    export.add_argument("file", metavar="FILE", help="file to write")
    export.add_argument("--kernel", metavar="NAME", help="as `hb trust list` names it, if there are several")
    export.set_defaults(command="memo export")
    taken = _parser(actions.add_parser, "import", help="add memo files to what is known")
    taken.add_argument("files", metavar="FILE", nargs="+", help="files that `hb memo export` wrote")
    taken.set_defaults(command="memo import")
    clear = _parser(actions.add_parser, "clear", help="forget what was proven")
    clear.add_argument("name", metavar="NAME", nargs="?", help="only of this kernel")
    clear.set_defaults(command="memo clear")
    for made in (show, export, taken, clear):
        _add_store(made)


def _add_train(commands: Any) -> None:
    train = _parser(
        commands.add_parser,
        "train",
        help="run all tools on images so that later runs meet no unknown code",
        description="Run every tool on memory images, under taint where code is new; what is proven goes to the memo.",
        epilog="example:\n  hb train sample1.raw sample2.lime",
    )
    train.add_argument("dumps", metavar="DUMP", nargs="+", help="memory images")
    _add_store(train)
    train.set_defaults(command="train")


def _add_isf(commands: Any) -> None:
    isf = _parser(
        commands.add_parser,
        "isf",
        help="write a kernel's symbol table for Volatility's own linux.* plugins",
        description="Write Volatility's symbol table (ISF) of a kernel, from the types and symbols that the kernel itself\n"
        "carries, so that Volatility's own linux.* plugins work on its images with no debug package.",
        epilog="example:\n  hb isf 6.1.0-56-cloud-amd64 --out symbols/6.1.0-56-cloud-amd64.json.xz\n"
        "  vol -s symbols -f dump.raw linux.pslist",
    )
    isf.add_argument("kernel", metavar="KERNEL", help="a stored kernel's name, a vmlinuz or a package")
    isf.add_argument(
        "--out",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="the file to write, .json or .json.xz (default: named after the kernel, in this folder)",
    )
    _add_store(isf)
    isf.set_defaults(command="isf")


def _add_regress(commands: Any) -> None:
    regress = _parser(
        commands.add_parser, "regress", help="record answers of images, and notice later when one changes",
        description="Record what tools answer on sample images, and verify later that they answer the same.\n"
        "`pytest --hb-cases CASES.toml` makes each run of each case a test.",
    )  # fmt: skip
    actions = regress.add_subparsers(title="actions", metavar="ACTION", required=True)
    record = _parser(
        actions.add_parser, "record", help="write the answers of the cases beside the file, in golden/CASE",
        description="Answer every run of every case and keep the answers; what is other than before is shown.", epilog=CASES,
    )  # fmt: skip
    verify = _parser(
        actions.add_parser, "verify", help="compare with what was recorded", epilog=CASES,
        description="Answer every run of every case again and show what differs.\n\n"
        "exit status: 0 nothing differs, 1 something does, 2 something could not be answered",
    )  # fmt: skip
    for made in (record, verify):
        made.add_argument("cases", metavar="CASES.toml", help="the file of cases, see below")
        made.add_argument(
            "--only", metavar="NAME", action="append", default=[], help="only this case (may be repeated)"
        )
        _add_store(made)
    verify.add_argument("--junit", metavar="FILE", help="also write the results as JUnit XML")
    record.set_defaults(command="regress record")
    verify.set_defaults(command="regress verify")


def _add_batch(commands: Any, arguments: Sequence[str]) -> None:
    batch = _parser(
        commands.add_parser,
        "batch",
        help="run tools on many images, into one dataset for DuckDB and the like",
    )
    if "batch" in arguments:  # others are spared what its options take to load
        from hybridbridge_vol.cli.batch import add_options

        add_options(batch)
    _add_store(batch)
    batch.set_defaults(command="batch")
