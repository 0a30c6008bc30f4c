"""What the summary reads: the manifest's images and of their tables the columns it speaks of.

Everything here was written by `hb batch`, but what it holds is the guests': any cell may be missing, of
another type, or absurd.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch.dataset import GENERIC, ToolRun, table_path
from hybridbridge_vol.lab.batch.tables import UNREADABLE

Cells = Mapping[str, Any]
"""One row of a table by column names; times in seconds since the epoch."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "ps": ("PID", "PPID", "UID", "STAT", "START", "VSZ", "COMM", "CMD"),
    "lsmod": ("MODULE", "SIZE", "STATE", "TAINTS", "BY"),
    "netstat": ("PROTO", "LOCAL", "FOREIGN", "STATE", "PID", "PROGRAM"),
    "ss": ("NETID", "STATE", "LOCAL", "PEER"),
    "lsof": ("COMMAND", "PID", "UID", "FD", "TYPE", "NODE", "NAME"),
    "maps": ("PID", "START", "END", "PERM", "PATH"),
    "dmesg": ("SECONDS", "WHEN", "FACILITY", "LEVEL", "MESSAGE"),
    "uptime": ("NOW", "UP", "BOOTED"),
    "free": ("KIND", "TOTAL", "USED", "FREE", "BUFF/CACHE"),
    "mpstat": ("CPU", "%USR", "%NICE", "%SYS", "%IOWAIT", "%IRQ", "%SOFT", "%STEAL", "%IDLE"),
    "check": ("WHAT", "ADDRESS", "SYMBOL", "EXPECTED", "FOUND", "LEADS"),
    "hidden": ("KIND", "WHAT", "NAME", "SEEN", "MISSING"),
}
"""The tools that the page speaks of, and what it reads of each."""
TIMES = {("ps", "START"), ("dmesg", "WHEN"), ("uptime", "NOW"), ("uptime", "BOOTED")}
MOST_ROWS = 100_000
"""Of one table; what lies beyond is told to be left out."""


@dataclass(frozen=True)
class Image:
    """A row of the manifest; `captured` in seconds since the epoch, `name` by which the page calls it."""

    id: str
    name: str
    path: str
    size: int | None
    sha256: str | None
    format: str | None
    kernel: str | None
    release: str | None
    banner: str | None
    captured: float | None
    cpus: int | None
    tools: tuple[ToolRun, ...]
    seconds: float | None
    status: str
    error: str | None
    version: str | None

    def run(self, tool: str) -> ToolRun | None:
        """How the tool went on this image; None if it was not run."""
        return next((run for run in self.tools if run.tool == tool), None)


@dataclass(frozen=True)
class Tables:
    """Rows by tool, of those that have a table; `problems` says what of them could not be read."""

    rows: Mapping[str, list[Cells]]
    problems: tuple[str, ...] = ()


def read_images(out: Path) -> list[Image]:
    """The images of the manifest, by path. BatchError if there is none that can be read."""
    reader = next((reader for name, reader in _READERS.items() if (out / f"manifest.{name}").exists()), None)
    if reader is None:
        raise BatchError(f"{out}: no manifest in it; run 'hb batch PATH… --out {out}'")
    suffix = "jsonl" if reader is _jsonl else "parquet"
    try:
        images = [_image(row) for row in reader(out / f"manifest.{suffix}", None)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BatchError(f"{out}/manifest.{suffix}: damaged ({error}); run 'hb batch' again") from None
    often = Counter(image.name for image in images)
    images = [image if often[image.name] == 1 else replace(image, name=image.id) for image in images]
    return sorted(images, key=lambda image: (image.path, image.id))


def name_of(path: str) -> str:
    """What an image is called: its file's name without the ending, or its folder's where that says
    nothing."""
    file = PurePath(path)
    return file.parent.name if file.stem.lower() in GENERIC and file.parent.name else file.stem


def _image(row: Cells) -> Image:
    known = {name: row.get(name) for name in Image.__dataclass_fields__}
    runs = tuple(
        ToolRun(
            **{name: run[name] for name in ToolRun.__dataclass_fields__ if run.get(name) is not None}
            | {"error": run.get("error")}
        )
        for run in row.get("tools") or ()
    )
    return Image(**known | {  # type: ignore[arg-type]
        "id": _plain(row["id"]), "path": str(row["path"]), "name": name_of(str(row["path"])), "status": str(row["status"]), "tools": runs,
        "captured": seconds_of(row.get("captured")),
    })  # fmt: skip


def _plain(image: object) -> str:
    """An id, which is part of paths of the dataset."""
    if not isinstance(image, str) or "/" in image or not image.strip("."):
        raise ValueError(f"{image!r} is no id of an image")
    return image


def read_tables(out: Path, image: Image) -> Tables:
    """All tables of an image that the page speaks of."""
    rows: dict[str, list[Cells]] = {}
    problems = []
    for tool, columns in COLUMNS.items():
        for suffix, reader in _READERS.items():
            path = table_path(out, tool, image.id, suffix)  # type: ignore[arg-type]
            if not path.exists():
                continue
            try:
                found = list(islice(reader(path, columns), MOST_ROWS + 1))
            except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
                problems.append(f"{tool}: the table cannot be read ({type(error).__name__})")
                break
            if len(found) > MOST_ROWS:
                problems.append(f"{tool}: only the first {MOST_ROWS} rows are looked at here")
            rows[tool] = [cells_of(tool, row) for row in found[:MOST_ROWS]]
            break
    return Tables(rows, tuple(problems))


def cells_of(tool: str, row: Cells) -> Cells:
    """A row as the page reads it: each cell a number, a text or None; times as seconds; `unreadable` texts by
    column, or None."""
    made: dict[str, Any] = {}
    for name, value in row.items():
        if name == UNREADABLE:
            made[name] = (
                {str(column): str(reason) for column, reason in value.items()}
                if isinstance(value, dict)
                else None
            )
        elif (tool, name) in TIMES:
            made[name] = seconds_of(value)
        else:
            made[name] = value if isinstance(value, str | int | float) else None
    return made


def seconds_of(value: object) -> float | None:
    """A time as a table keeps it (a datetime, or ISO 8601 text) in seconds since the epoch; None for anything
    else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def number(row: Cells, column: str) -> float | None:
    """A cell that is a finite number."""
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def text(row: Cells, column: str) -> str:
    """A cell that is text; empty for anything else."""
    value = row.get(column)
    return value if isinstance(value, str) else ""


def _parquet(path: Path, columns: tuple[str, ...] | None) -> Iterator[Cells]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            wanted = (
                None
                if columns is None
                else [name for name in (*columns, UNREADABLE) if name in file.schema_arrow.names]
            )
            for batch in file.iter_batches(4096, columns=wanted):
                for row in batch.to_pylist():
                    if isinstance(row.get(UNREADABLE), list):
                        row[UNREADABLE] = dict(row[UNREADABLE])
                    yield row
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _jsonl(path: Path, columns: tuple[str, ...] | None) -> Iterator[Cells]:
    wanted = None if columns is None else {*columns, UNREADABLE}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a row")  # noqa: TRY004  as of any damaged table
            yield {name: value for name, value in row.items() if wanted is None or name in wanted}


_READERS = {"jsonl": _jsonl, "parquet": _parquet}
