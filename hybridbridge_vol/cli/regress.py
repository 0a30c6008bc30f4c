"""`hb regress`: the answers on some images are recorded, and later compared with new ones."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hybridbridge_vol.cli.arguments import add_command, add_kernel_at, add_store
from hybridbridge_vol.cli.console import complain, kernel_at, root_of, store_root
from hybridbridge_vol.cli.run import options_of, parse_tool
from hybridbridge_vol.errors import HybridBridgeError, OptionError, error_text
from hybridbridge_vol.lab.regress import regress
from hybridbridge_vol.lab.regress.cases import Run, read_cases
from hybridbridge_vol.progress import Progress

SAME, DIFFERENT, UNANSWERED = 0, 1, 2
"""Exit statuses, as `diff` has them: 2 is for what could not be compared."""

CASES = """\
a file of cases:
  [moving]                                 # columns whose values are not compared, by tool
  ps = ["TIME", "%CPU"]

  [[case]]
  name = "web-01"
  image = "images/web-01.raw"              # relative to this file; or make = ["command", ...],
                                           # whose last line of output is the path
  run = ["ps --tree", "netstat -tulpan"]   # as typed after `hb run DUMP`; also --ns-of PID, --root-of PID,
                                           # --kernel-at PADDR
  without = {ps = {CMD = "kworker"}}       # rows to leave out, by a pattern
  unordered = ["netstat"]                  # tools whose rows are compared in any order
"""

_NOT_RECORDED = (
    "format", "bridge", "provenance", "stats", "store", "fetch", "sandbox", "max_seconds", "max_memory",
)  # fmt: skip
"""Options of `hb run` that say how it is answered, and not what."""
_COLOURS = {"-": "31", "+": "32", "~": "33"}


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = (
        "Record what tools answer on sample images, and verify later that they still answer the same. "
        "`pytest --hb-cases CASES.toml` makes each run of each case a test."
    )
    parser.epilog = (
        "examples:\n"
        "  hb regress record cases.toml\n"
        "  hb regress verify cases.toml --junit results.xml\n"
        "  hb regress verify --help                describes the file of cases"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, prog="hb regress")
    record = add_command(actions, "record", "write the answers to golden/CASE beside the file of cases")
    record.description = (
        "Answer every run of every case, store the answers, and show what differs from the stored ones."
    )
    verify = add_command(actions, "verify", "compare new answers with the recorded ones")
    verify.description = (
        "Answer every run of every case again and show what differs.\n\n"
        "exit status: 0 nothing differs, 1 something differs, 2 something could not be answered"
    )
    for name, action in (("record", record), ("verify", verify)):
        action.epilog = f"example:\n  hb regress {name} cases.toml --only web-01\n\n{CASES}"
        action.add_argument("cases", metavar="CASES.toml", help="the file of cases, see below")
        action.add_argument(
            "--only", metavar="NAME", action="append", default=[], help="only this case (may be repeated)"
        )
        add_store(action)
        add_kernel_at(action)
    verify.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML too")
    record.set_defaults(execute=record_command)
    verify.set_defaults(execute=verify_command)


def parse_run(text: str) -> Run:
    """A run as typed after `hb run DUMP`. OptionError says what is wrong with it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(str(error)) from None
    args = parse_tool(words)
    for name in _NOT_RECORDED:
        if hasattr(args, name):
            raise OptionError(f"--{name.replace('_', '-')} is not for a recorded run")
    view = getattr(args, "ns_of", None), root_of(args), kernel_at(args)
    return Run(text, args.tool, options_of(args), *view)


def _parsed(default: int | None, text: str) -> Run:
    """A run, of the kernel at the address that the command line names, unless it has its own."""
    run = parse_run(text)
    return run if run.kernel_at is not None else run._replace(kernel_at=default)


def record_command(args: argparse.Namespace) -> int:
    """`hb regress record CASES.toml`"""
    return _with_errors_as_unanswered(args, _record)


def _record(args: argparse.Namespace) -> int:
    failed = False
    for result in _results(args, record=True):
        failed = failed or result.error is not None
        _show(result, "recorded anew" if result.lines else "as it was")
    return UNANSWERED if failed else SAME


def verify_command(args: argparse.Namespace) -> int:
    """`hb regress verify CASES.toml`"""
    return _with_errors_as_unanswered(args, _verify)


def _verify(args: argparse.Namespace) -> int:
    results = []
    for result in _results(args, record=False):
        results.append(result)
        _show(result, "different" if result.lines else "same")
    if args.junit:
        regress.junit(Path(args.junit), args.cases, results)
    if any(result.error is not None for result in results):
        return UNANSWERED
    return DIFFERENT if any(result.lines for result in results) else SAME


def _with_errors_as_unanswered(args: argparse.Namespace, work: Callable[[argparse.Namespace], int]) -> int:
    """Errors have the status 2 here, because 1 means that an answer changed."""
    try:
        return work(args)
    except BrokenPipeError:
        raise
    except (HybridBridgeError, OSError) as error:
        if args.debug:
            raise
        complain(error_text(error, None))
        return UNANSWERED


def _results(args: argparse.Namespace, record: bool) -> Iterator[regress.Result]:
    store = store_root(args)
    with Progress() as progress:
        for case in read_cases(Path(args.cases), partial(_parsed, kernel_at(args)), tuple(args.only)):
            if record:
                results = regress.record(case, store, progress)
            else:
                results = regress.verify(case, case.runs, store, progress)
            for result in results:
                progress.clear()
                yield result


def _show(result: regress.Result, word: str) -> None:
    name = f"{result.case.name}: {result.run.text}"
    if result.error is not None:
        complain(f"{name}: {result.error}")
        return
    print(f"{name}: {word}", flush=True)
    coloured = sys.stdout.isatty()
    for line in result.lines:
        colour = _COLOURS.get(line[:1]) if coloured else None
        print(f"  \x1b[{colour}m{line}\x1b[0m" if colour else f"  {line}")
    sys.stdout.flush()
