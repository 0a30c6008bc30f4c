"""`hb regress`: recorded answers of images, and what has changed since."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hybridbridge_vol.cli.parsers import dest_of, parser
from hybridbridge_vol.errors import HybridBridgeError, OptionError
from hybridbridge_vol.lab.regress import regress
from hybridbridge_vol.lab.regress.cases import Run, read_cases
from hybridbridge_vol.progress import Progress
from hybridbridge_vol.toolkit.tool import error_text

SAME, DIFFERENT, FAILED = 0, 1, 2
_COLOURS = {"-": "31", "+": "32", "~": "33"}


def parse_run(text: str) -> Run:
    """A run as typed after `hb run IMAGE`. OptionError says what is wrong with it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(str(error)) from None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = parser(["run", *words]).parse_args(["run", "IMAGE", *words])
    except SystemExit:
        lines = said.getvalue().strip().splitlines() or ["not a run of a tool"]
        raise OptionError(lines[-1].partition("error: ")[2] or lines[-1]) from None
    for name in ("format", "bridge", "provenance", "stats", "store"):
        if hasattr(args, name):
            raise OptionError(f"--{name} is not for a recorded run")
    options = {
        option.name: tuple(value or ()) if option.many else value
        for option in args.tool.options
        for value in [getattr(args, dest_of(option))]
    }
    return Run(text, args.tool, options, getattr(args, "ns_of", None))


def record_command(args: argparse.Namespace) -> int:
    """hb regress record CASES.toml"""
    return _told(args, _record)


def _record(args: argparse.Namespace) -> int:
    failed = False
    for result in _results(args, record=True):
        failed = failed or result.error is not None
        _show(result, "recorded anew" if result.lines else "as it was")
    return FAILED if failed else SAME


def verify_command(args: argparse.Namespace) -> int:
    """hb regress verify CASES.toml"""
    return _told(args, _verify)


def _verify(args: argparse.Namespace) -> int:
    results = []
    for result in _results(args, record=False):
        results.append(result)
        _show(result, "different" if result.lines else "same")
    if args.junit:
        regress.junit(Path(args.junit), args.cases, results)
    if any(result.error is not None for result in results):
        return FAILED
    return DIFFERENT if any(result.lines for result in results) else SAME


def _told(args: argparse.Namespace, work: Callable[[argparse.Namespace], int]) -> int:
    """Errors have a status of their own here: 1 says that an answer changed."""
    from hybridbridge_vol.cli.main import complain

    try:
        return work(args)
    except BrokenPipeError:
        raise
    except (HybridBridgeError, OSError) as error:
        if args.debug:
            raise
        complain(error_text(error, None))
        return FAILED


def _results(args: argparse.Namespace, record: bool) -> Iterator[regress.Result]:
    store = Path(args.store) if hasattr(args, "store") else None
    cases = read_cases(Path(args.cases), parse_run, tuple(args.only))
    with Progress() as progress:
        for case in cases:
            for result in (
                regress.record(case, store, progress)
                if record
                else regress.verify(case, case.runs, store, progress)
            ):
                progress.clear()
                yield result


def _show(result: regress.Result, word: str) -> None:
    from hybridbridge_vol.cli.main import complain

    name = f"{result.case.name}: {result.run.text}"
    if result.error is not None:
        complain(f"{name}: {result.error}")
        return
    print(f"{name}: {word}", flush=True)
    _print_lines(result.lines)


def _print_lines(lines: Sequence[str]) -> None:
    coloured = sys.stdout.isatty()
    for line in lines:
        colour = _COLOURS.get(line[:1]) if coloured else None
        print(f"  \x1b[{colour}m{line}\x1b[0m" if colour else f"  {line}")
    sys.stdout.flush()
