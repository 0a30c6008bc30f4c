"""`hb batch`: tools on many images, written as one dataset."""

from __future__ import annotations

import argparse
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybridbridge_vol import tools
from hybridbridge_vol.cli.arguments import add_kernel_at, add_store, count, seconds
from hybridbridge_vol.cli.console import FAILED, OK, PARTIAL, complain, kernel_at, store_root
from hybridbridge_vol.errors import BatchError, OptionError
from hybridbridge_vol.lab.batch.dataset import FORMATS, Record
from hybridbridge_vol.lab.batch.request import MEMORY, PAPER_TOOLS, TOOL_SECONDS, Request
from hybridbridge_vol.progress import Progress

_TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

if TYPE_CHECKING:
    from hybridbridge_vol.lab.batch.batch import MakeEngine, Outcome


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    cpus = len(os.sched_getaffinity(0))
    parser.description = (
        "Run tools on many memory images; write a table for each tool, a manifest of the images, and a "
        "summary page for a browser. An interrupted batch continues where it was when the same command is "
        "run again: only new and changed images are examined."
    )
    parser.epilog = (
        "PATH is an image, a directory that is searched to any depth, or @LIST, a text file with one path a "
        "line. A file found in a directory that is not a memory image is ignored, unless its name says that "
        "it is one; a file that is named itself is listed in the manifest in any case.\n\n"
        "examples:\n"
        "  hb batch /evidence --out case-17 --jobs 2\n"
        "  hb batch @hosts.txt old/dc1.lime --out case-17 --tools ps,netstat,lsof,hidden --sha256\n"
        "  hb batch /evidence --out case-17 --exec 'sockets=ss -tanp' --exec 'mounts=findmnt -A'\n"
        "  hb batch /share/evidence --out case-17 --engine dask --scheduler tcp://lab1:8786\n"
        "  duckdb -c \"SELECT image, PID, CMD FROM 'case-17/tables/ps/*/*.parquet' WHERE UID = 0\"\n\n"
        f"default tools: {', '.join(PAPER_TOOLS)}\n\n"
        "exit status: 0 all images answered in full, 1 no image answered or an error, 2 wrong usage, 3 some "
        "images or rows could not be read, 130 interrupted"
    )
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", help="image, directory, or @LIST")
    add("--out", metavar="DIR", required=True, help="directory of the dataset, created or continued")
    add("--tools", metavar="A,B,…", help="tools to run (default: see below)")
    add(
        "--jobs",
        type=count,
        default=cpus,
        metavar="N",
        help="images examined in parallel (default: one per CPU)",
    )
    add(
        "--exec", metavar="NAME=COMMAND", action="append", default=[],
        help="run an unmodified program of this machine, too; its lines become the table NAME (repeatable)",
    )  # fmt: skip
    add("--format", choices=FORMATS, default="parquet", help="format of the tables (default: parquet)")
    add(
        "--sha256",
        action="store_true",
        help="add each image's SHA-256 to the manifest (reads all of the image)",
    )
    add(
        "--time", type=seconds, default=TOOL_SECONDS, metavar="SECONDS",
        help=f"time limit of one tool on one image, by the wall clock (default: {TOOL_SECONDS:g})",
    )  # fmt: skip
    add(
        "--memory", type=count, default=MEMORY >> 20, metavar="MIB",
        help=f"memory limit of one worker, not counting the image's file (default: {MEMORY >> 20})",
    )  # fmt: skip
    add(
        "--engine", choices=("local", "dask"), default="local",
        help="where to work: processes on this machine (default), or a Dask cluster",
    )  # fmt: skip
    add(
        "--scheduler", metavar="ADDRESS",
        help="use this Dask cluster (tcp://HOST:8786) instead of starting one here with --jobs workers; its "
        "workers need this program, and the images under the same paths",
    )  # fmt: skip
    add_store(parser)
    add_kernel_at(parser)
    parser.set_defaults(execute=batch_command)


def batch_command(args: argparse.Namespace) -> int:
    """`hb batch PATH… --out DIR`"""
    from hybridbridge_vol.lab.batch import batch

    store = store_root(args)
    programs = chosen_programs(args.exec)
    request = Request(
        id="", path="", staging="", format=args.format, programs=programs,
        tools=(*chosen_tools(args.tools), *(name for name, _command in programs)),
        store=None if store is None else os.path.abspath(store), sha256=args.sha256,
        tool_seconds=args.time, memory=args.memory << 20, kernel_at=kernel_at(args),
    )  # fmt: skip
    if args.format == "parquet":
        _need_pyarrow()
    # a batch that is terminated ends as one that is interrupted: finished images are kept, workers are ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Progress() as progress:

        def report(record: Record) -> None:
            line = _problem_of(record)
            if line is not None:
                progress.clear()
                complain(line)

        options = batch.Options(request, args.jobs, _engine(args))
        outcome = batch.run(args.paths, Path(os.path.abspath(args.out)), options, progress, report)
    return _report(args, outcome)


def _report(args: argparse.Namespace, outcome: Outcome) -> int:
    """Print the numbers of a finished batch; its exit status."""
    images = len(outcome.records)
    if not images:
        complain(f"no memory image in {', '.join(args.paths)}")
        return FAILED
    statuses = [record.status for record in outcome.records]
    shown = ", ".join(
        f"{statuses.count(status)} {status}" for status in ("ok", "partial", "failed") if status in statuses
    )
    before = f", {outcome.before} of them done before" if outcome.before else ""
    print(f"{images} images ({shown}){before}: {os.path.abspath(args.out)}")
    if statuses.count("ok") == images:
        return OK
    return FAILED if statuses.count("failed") == images else PARTIAL


def _engine(args: argparse.Namespace) -> MakeEngine | None:
    """The engine that was asked for; None: this machine's."""
    if args.engine == "local":
        if args.scheduler is not None:
            raise OptionError("--scheduler is for --engine dask")
        return None
    from hybridbridge_vol.lab.batch.engines.dask import DaskEngine

    return lambda jobs, step: DaskEngine(jobs, step, args.scheduler)


def _problem_of(record: Record) -> str | None:
    """One line about an image that was not answered in full; None for the others."""
    if record.error is not None and not record.tools:
        return record.error
    problems = [
        f"{run.tool}: {run.error or f'{run.incomplete} of {run.rows} rows are incomplete'}"
        for run in record.tools
        if run.status != "ok"
    ]
    return f"{record.path}: {'; '.join(problems)}" if problems else None


def chosen_tools(names: str | None) -> tuple[str, ...]:
    """The tools of a comma-separated list; the paper's by default. OptionError names one that a batch cannot
    run."""
    if names is None:
        return PAPER_TOOLS
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen:
        if name not in tools.NAMES:
            raise OptionError(f"no tool is named {name!r}; there are {', '.join(tools.NAMES)}")
        if any(option.positional for option in tools.load(name).options):
            raise OptionError(
                f"{name} needs an argument that differs from image to image; use 'hb run DUMP {name}'"
            )
    if not chosen:
        raise OptionError("--tools names no tool")
    return chosen


def chosen_programs(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The names and commands of `--exec`. OptionError if a name cannot be a table's."""
    programs: dict[str, str] = {}
    for text in given:
        name, sign, command = text.partition("=")
        if not sign or not command.strip() or not _TABLE_NAME.fullmatch(name):
            raise OptionError(f"--exec {text}: not NAME=COMMAND; a name has letters, digits and _ only")
        if name in tools.NAMES or name in programs:
            raise OptionError(f"--exec {text}: there is a table named {name} already")
        programs[name] = command
    return tuple(programs.items())


def _need_pyarrow() -> None:
    """BatchError before any work is done, if tables cannot be written."""
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise BatchError(
            "Parquet needs pyarrow: pip install 'hybridbridge-vol[batch]', or choose --format jsonl"
        )
