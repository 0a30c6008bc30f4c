"""`hb batch`: many images, one dataset."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from hybridbridge_vol import tools
from hybridbridge_vol.errors import BatchError, OptionError
from hybridbridge_vol.lab.batch.dataset import Record
from hybridbridge_vol.lab.batch.examine import PAPER_TOOLS, Request
from hybridbridge_vol.progress import Progress

if TYPE_CHECKING:
    from hybridbridge_vol.lab.batch.batch import MakeEngine

OK, FAILED, PARTIAL = 0, 1, 3


def batch_command(args: argparse.Namespace) -> int:
    """hb batch PATH… --out DIR"""
    from hybridbridge_vol.cli.main import complain
    from hybridbridge_vol.lab.batch import batch

    request = Request(
        id="", path="", staging="", tools=chosen_tools(args.tools), format=args.format,
        store=os.path.abspath(args.store) if hasattr(args, "store") else None, sha256=args.sha256,
        tool_seconds=args.time, memory=args.memory << 20,
    )  # fmt: skip
    if args.format == "parquet":
        _need_pyarrow()
    out = Path(os.path.abspath(args.out))
    # both ends of a batch are the same: what is done is kept, what is under way is ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Progress() as progress:

        def error_text(record: Record) -> None:
            line = _line(record)
            if line is not None:
                progress.clear()
                complain(line)

        outcome = batch.run(
            args.paths, out, batch.Options(request, args.jobs, _engine(args)), progress, error_text
        )
    counts = {
        status: sum(record.status == status for record in outcome.records)
        for status in ("ok", "partial", "failed")
    }
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    if not outcome.records:
        complain(f"no memory image in {', '.join(args.paths)}")
        return FAILED
    before = f", {outcome.before} of them done before" if outcome.before else ""
    print(f"{len(outcome.records)} images ({shown}){before}: {out}")
    if counts["ok"] == len(outcome.records):
        return OK
    return FAILED if counts["failed"] == len(outcome.records) else PARTIAL


def _engine(args: argparse.Namespace) -> MakeEngine | None:
    if args.engine == "local":
        if args.scheduler is not None:
            raise OptionError("--scheduler is for --engine dask")
        return None
    from hybridbridge_vol.lab.batch.engines.dask import DaskEngine

    return lambda jobs, step: DaskEngine(jobs, step, args.scheduler)


def _line(record: Record) -> str | None:
    """What is worth a line of its own about a finished image."""
    if record.error is not None and not record.tools:
        return record.error
    bad = [run for run in record.tools if run.status != "ok"]
    if not bad:
        return None
    return f"{record.path}: " + "; ".join(
        f"{run.tool}: {run.error or f'{run.incomplete} of {run.rows} rows are incomplete'}" for run in bad
    )


def chosen_tools(names: str | None) -> tuple[str, ...]:
    """The tools of a list with commas; the paper's by default. OptionError names one that a batch cannot
    run."""
    if names is None:
        return PAPER_TOOLS
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in chosen:
        if name not in tools.NAMES:
            raise OptionError(f"no tool is named {name!r}; they are {', '.join(tools.NAMES)}")
        if any(option.positional for option in tools.load(name).options):
            raise OptionError(
                f"{name} asks for an argument that differs from image to image; use 'hb run DUMP {name}'"
            )
    if not chosen:
        raise OptionError("--tools names no tool")
    return chosen


def _need_pyarrow() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise BatchError(
            "Parquet needs pyarrow: pip install 'hybridbridge-vol[batch]', or choose --format jsonl"
        )


def add_options(made: argparse.ArgumentParser) -> None:
    """Give the parser of `hb batch` its arguments and its help."""
    from hybridbridge_vol.lab.batch.dataset import FORMATS
    from hybridbridge_vol.lab.batch.examine import MEMORY, TOOL_SECONDS

    cpus = len(os.sched_getaffinity(0))
    made.description = (
        "Run tools on many memory images; write a Parquet dataset for each tool and a manifest of the images.\n"
        "It may be interrupted: run again, it goes on where it was, and examines new and changed images only."
    )
    made.epilog = (
        "PATH is an image, a folder that is searched to its depths, or @LIST, a text file with one path a line.\n"
        "A file of a folder that is no memory image is passed over, unless its name says that it is one; a file that is\n"
        "named itself has its line in the manifest whatever it is.\n\n"
        "examples:\n"
        "  hb batch /evidence --out case-17 --jobs 2\n"
        "  hb batch @hosts.txt old/dc1.lime --out case-17 --tools ps,netstat,lsof,hidden --sha256\n"
        "  hb batch /share/evidence --out case-17 --engine dask --scheduler tcp://lab1:8786\n"
        "  duckdb -c \"SELECT image, PID, CMD FROM 'case-17/tables/ps/*/*.parquet' WHERE UID = 0\"\n\n"
        f"default tools: {', '.join(PAPER_TOOLS)}\n\n"
        "exit status: 0 all images answered in full, 1 none did or an error, 2 wrong usage, 3 some images or rows could not be\n"
        "read, 130 interrupted"
    )
    made.add_argument("paths", metavar="PATH", nargs="+", help="image, folder, or @LIST")
    made.add_argument(
        "--out", metavar="DIR", required=True, help="the dataset: made if need be, added to if it is there"
    )
    made.add_argument("--tools", metavar="A,B,…", help="tools to run (default: see below)")
    made.add_argument(
        "--jobs", type=_count, default=cpus, metavar="N", help=f"images at a time (default: {cpus}, the CPUs)"
    )
    made.add_argument("--format", choices=FORMATS, default="parquet", help="of the tables (default: parquet)")
    made.add_argument(
        "--sha256", action="store_true", help="the images' SHA-256 in the manifest (reads all of each)"
    )
    made.add_argument(
        "--time", type=_seconds, default=TOOL_SECONDS, metavar="SECONDS",
        help=f"wall time of one tool on one image, after which it is cut off (default: {TOOL_SECONDS:g})",
    )  # fmt: skip
    made.add_argument(
        "--memory", type=_count, default=MEMORY >> 20, metavar="MIB",
        help=f"memory of one worker beside the image's file, beyond which it is ended (default: {MEMORY >> 20})",
    )  # fmt: skip
    made.add_argument(
        "--engine", choices=("local", "dask"), default="local",
        help="where to work: in processes of this machine (default), or on a Dask cluster",
    )  # fmt: skip
    made.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="join this cluster (tcp://HOST:8786) instead of starting one here with --jobs workers; its workers need this "
        "program, and the images under the same paths",
    )  # fmt: skip


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"not a number above 0: {text!r}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return number
