"""hb: the command line. Parses, calls the engine, writes; each command imports only what it needs.

Exit status: 0 all is well; 1 an error, told in one line on standard error; 2 a command line that cannot be
understood; 3 an answer in which some rows say why they could not be read; 130 interrupted; 141 nobody reads
on.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from hybridbridge_vol.cli.parsers import dest_of, parser
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.progress import Progress
from hybridbridge_vol.toolkit.tool import Raw, Tool, Unavailable, error_text

if TYPE_CHECKING:
    from pathlib import Path

OK, FAILED, PARTIAL, INTERRUPTED, PIPE_CLOSED = 0, 1, 3, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hb` with these arguments (the process's own by default) and give its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parser(arguments).parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal's alphabet may lack the guest's letters.
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_place: complain(str(message))
    try:
        status = COMMANDS[args.command](args)
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


def complain(text: str) -> None:
    """One line on standard error."""
    from hybridbridge_vol.toolkit.render import printable

    print(printable(f"hb: {text}"), file=sys.stderr)


def run_command(args: argparse.Namespace) -> int:
    """hb run DUMP TOOL"""
    from hybridbridge_vol.guest.session import open_session

    tool: Tool = args.tool
    options = {
        option.name: tuple(value or ()) if option.many else value
        for option in tool.options
        for value in [getattr(args, dest_of(option))]
    }
    mode, ns_of = getattr(args, "bridge", "auto"), getattr(args, "ns_of", None)
    if hasattr(args, "provenance"):
        from hybridbridge_vol.toolkit.provenance import with_provenance

        tool, mode = with_provenance(tool), "slow"
    with (
        Progress() as progress,
        open_session(args.dump, store=_store(args), progress=progress, mode=mode, ns_of=ns_of) as session,
    ):
        progress.clear()
        try:
            if (
                isinstance(tool, Raw)
                and _format(args) == "text"
                and tool.wants_raw(options, sys.stdout.isatty())
            ):
                return _write_raw(args.dump, tool, session, options)
            complete = _write(tool, session, options, _format(args))
        finally:
            if hasattr(args, "stats"):
                sys.stdout.flush()
                sys.stderr.writelines(f"{line}\n" for line in session.statistics.lines())
    if not complete:
        complain(f"{args.dump}: some rows are incomplete; each says why")
    return OK if complete else PARTIAL


def _write(tool: Tool, session: Any, options: Any, form: str) -> bool:
    from hybridbridge_vol.toolkit import render

    answer = render.answer_of(tool, session, options)
    if form == "text" and sys.stdout.isatty():
        return render.write_text(answer, sys.stdout, width=os.get_terminal_size(sys.stdout.fileno()).columns)
    return render.WRITERS[form](answer, sys.stdout)


def _write_raw(dump: str, tool: Raw, session: Any, options: Any) -> int:
    from hybridbridge_vol.toolkit.render import safe

    wrote = failed = False
    for chunk in tool.raw(session, options):
        if isinstance(chunk, Unavailable):
            failed = True
            sys.stdout.flush()
            complain(f"{dump}: {chunk.reason}")
        elif sys.stdout.isatty():
            wrote = True
            sys.stdout.write(safe(chunk))
        else:
            wrote = True
            sys.stdout.buffer.write(chunk)
    return OK if not failed else PARTIAL if wrote else FAILED


def info_command(args: argparse.Namespace) -> int:
    """hb info DUMP"""
    from hybridbridge_vol.cli.report import write_facts
    from hybridbridge_vol.workflow.describe_image import describe

    with Progress() as progress:
        facts = describe(args.dump, _store(args), progress)
    write_facts(facts, _format(args), sys.stdout)
    return OK


def trust_add_command(args: argparse.Namespace) -> int:
    """hb trust add PATH…: each on its own, so that one bad file does not keep the others out."""
    from pathlib import Path

    from hybridbridge_vol.workflow.trust_kernel import enroll

    store = _open_store(args)
    status = OK
    for path in args.paths:
        try:
            with Progress() as progress:
                entry = enroll(store, Path(path), progress)
            print(f"{entry.name}: trusted")
        except (HybridBridgeError, OSError) as error:
            complain(error_text(error, path))
            status = FAILED
    return status


def trust_list_command(args: argparse.Namespace) -> int:
    """hb trust list"""
    from hybridbridge_vol.cli.report import write_records

    entries = _open_store(args).entries()
    write_records(entries, _format(args), sys.stdout, details=("banner", "build_id"))
    if not entries and _format(args) == "text":
        complain("no trusted kernel is stored yet: add one with `hb trust add PATH`")
    return OK


def trust_show_command(args: argparse.Namespace) -> int:
    """hb trust show NAME"""
    from hybridbridge_vol.cli.report import write_facts
    from hybridbridge_vol.workflow.describe_kernel import describe_kernel

    write_facts(describe_kernel(_open_store(args), args.name), _format(args), sys.stdout)
    return OK


def trust_rm_command(args: argparse.Namespace) -> int:
    """hb trust rm NAME…"""
    store = _open_store(args)
    for name in args.names:
        store.remove(name)
        print(f"{name}: removed")
    return OK


def _open_store(args: argparse.Namespace) -> Any:
    from hybridbridge_vol.trust.store import Store

    return Store(_store(args))


def _store(args: argparse.Namespace) -> Path | None:
    from pathlib import Path

    return Path(args.store) if hasattr(args, "store") else None


def isf_command(args: argparse.Namespace) -> int:
    """hb isf KERNEL"""
    from hybridbridge_vol.cli import isf as cli_isf

    return cli_isf.isf_command(args)


def batch_command(args: argparse.Namespace) -> int:
    """hb batch PATH…"""
    from hybridbridge_vol.cli import batch as cli_batch

    return cli_batch.batch_command(args)


def _regress(name: str) -> Callable[[argparse.Namespace], int]:
    """A command of `cli_regress`, which is loaded when it is asked for."""

    def command(args: argparse.Namespace) -> int:
        from hybridbridge_vol.cli import regress as cli_regress

        status: int = getattr(cli_regress, name)(args)
        return status

    return command


def _memo(name: str) -> Callable[[argparse.Namespace], int]:
    """A command of `cli_memo`, which is loaded when it is asked for."""

    def command(args: argparse.Namespace) -> int:
        from hybridbridge_vol.cli import memo as cli_memo

        status: int = getattr(cli_memo, name)(args)
        return status

    return command


def _format(args: argparse.Namespace) -> str:
    form: str = getattr(args, "format", "text")
    return form


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "info": info_command,
    "run": run_command,
    "trust add": trust_add_command,
    "trust list": trust_list_command,
    "trust show": trust_show_command,
    "trust rm": trust_rm_command,
    "memo show": _memo("memo_show_command"),
    "memo export": _memo("memo_export_command"),
    "memo import": _memo("memo_import_command"),
    "memo clear": _memo("memo_clear_command"),
    "train": _memo("train_command"),
    "isf": isf_command,
    "batch": batch_command,
    "regress record": _regress("record_command"),
    "regress verify": _regress("verify_command"),
}


if __name__ == "__main__":
    sys.exit(main())
