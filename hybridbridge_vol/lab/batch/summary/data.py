"""What the summary reads: the manifest's images, and of their tables the columns that it mentions.

Everything here was written by `hb batch`, but its content is the guests': any cell may be missing, of another
type, or absurd.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath

import msgspec

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch.dataset import FORMATS, GENERIC, ToolRun, table_path
from hybridbridge_vol.lab.batch.tables import UNREADABLE

Cells = Mapping[str, object]
"""One row of a table by column names; times in seconds since the epoch. `number`, `text` and `unreadable`
read it."""

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
    "hooks": ("KIND", "WHAT", "FUNCTION", "SYMBOL", "MODULE", "VERDICT"),
    "credentials": ("PID", "PPID", "COMM", "UID", "EUID", "EFFECTIVE", "VERDICT"),
    "malfind": ("PID", "COMM", "KIND", "START", "PERM", "BYTES", "WHY", "PATH"),
    "bpf": ("ID", "TYPE", "NAME", "ATTACHED", "MARKS", "LOADED", "UID", "OWNERS"),
    "users": ("KIND", "NAME", "UID", "HOME", "SHELL", "PASSWORD", "MARK", "FILE", "LINE"),
    "logins": ("SOURCE", "KIND", "USER", "TTY", "HOST", "START", "MARK", "FILE", "OFFSET"),
    "persistence": ("KIND", "WHEN", "RUNS", "USER", "STATE", "MTIME", "MARK", "FILE", "LINE"),
    "containers": ("ENGINE", "ID", "NAME", "IMAGE_NAME", "PID", "COMMAND", "MARK"),
}
"""The tools that the page mentions, and the columns that it reads of each."""
TIMES = {
    ("ps", "START"),
    ("dmesg", "WHEN"),
    ("uptime", "NOW"),
    ("uptime", "BOOTED"),
    ("logins", "START"),
    ("persistence", "MTIME"),
    ("bpf", "LOADED"),
}
"""Columns that hold times."""
MOST_ROWS = 100_000
"""Rows of one table that are read; the page says that the others were left out."""
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Image:
    """A row of the manifest; `captured` in seconds since the epoch, `name` by which the page calls it."""

    id: str
    name: str
    path: str
    status: str
    size: int | None = None
    sha256: str | None = None
    format: str | None = None
    kernel: str | None = None
    release: str | None = None
    banner: str | None = None
    captured: float | None = None
    cpus: int | None = None
    tools: tuple[ToolRun, ...] = ()
    seconds: float | None = None
    error: str | None = None
    version: str | None = None

    def run(self, tool: str) -> ToolRun | None:
        """How the tool did on this image; None if it was not run."""
        return next((run for run in self.tools if run.tool == tool), None)


@dataclass(frozen=True)
class Tables:
    """Rows by tool, of the tools that have a table; `problems`: one line for each that could not be read."""

    rows: Mapping[str, list[Cells]]
    problems: tuple[str, ...] = ()


def read_images(out: Path) -> list[Image]:
    """The images of the manifest, by path. BatchError if there is none that can be read."""
    manifest = next((path for name in FORMATS if (path := out / f"manifest.{name}").exists()), None)
    if manifest is None:
        raise BatchError(f"{out}: no manifest in it; run 'hb batch PATH… --out {out}'")
    try:
        images = [_image(row) for row in _reader(manifest)(manifest, None)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BatchError(f"{manifest}: damaged ({error}); run 'hb batch' again") from None
    occurrences = Counter(image.name for image in images)
    images = [image if occurrences[image.name] == 1 else replace(image, name=image.id) for image in images]
    return sorted(images, key=lambda image: (image.path, image.id))


def name_of(path: str) -> str:
    """What the page calls an image: its file's name without the ending, or its directory's name where that
    says nothing."""
    file = PurePath(path)
    return file.parent.name if file.stem.lower() in GENERIC and file.parent.name else file.stem


def _image(row: Cells) -> Image:
    """The image of a row of the manifest. ValueError."""
    if "/" in text(row, "id") or not text(row, "id").strip("."):  # it is a part of paths
        raise ValueError(f"{row.get('id')!r} is not the id of an image")
    known = {name: value for name, value in row.items() if value is not None}
    known |= {"name": name_of(text(row, "path")), "captured": seconds_of(row.get("captured"))}
    return msgspec.convert(known, type=Image)


def read_tables(out: Path, image: Image) -> Tables:
    """All tables of an image that the page mentions."""
    rows: dict[str, list[Cells]] = {}
    problems = []
    for tool, columns in COLUMNS.items():
        path = next(
            (path for form in FORMATS if (path := table_path(out, tool, image.id, form)).exists()), None
        )
        if path is None:
            continue
        try:
            found = list(islice(_reader(path)(path, columns), MOST_ROWS + 1))
        except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
            problems.append(f"{tool}: the table cannot be read ({type(error).__name__})")
            continue
        if len(found) > MOST_ROWS:
            problems.append(f"{tool}: only the first {MOST_ROWS} rows are read for this page")
        rows[tool] = [cells_of(tool, row) for row in found[:MOST_ROWS]]
    return Tables(rows, tuple(problems))


def cells_of(tool: str, row: Cells) -> Cells:
    """A row as the page reads it: each cell a number, a text or None; times as seconds; the reasons of
    unreadable cells by column, or None."""
    made: dict[str, object] = {}
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
    """A time as a table holds it (a datetime, or ISO 8601 text) in seconds since the epoch; None for anything
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


def unreadable(row: Cells) -> Mapping[str, str]:
    """Why cells of the row could not be read, by column; empty for a complete row."""
    reasons = row.get(UNREADABLE)
    return reasons if isinstance(reasons, dict) else {}


def _parquet(path: Path, columns: tuple[str, ...] | None) -> Iterator[dict[str, object]]:
    from pyarrow import ArrowException, parquet  # an optional package: JSON lines need none

    try:
        with parquet.ParquetFile(path) as file:
            wanted = (
                None
                if columns is None
                else [name for name in (*columns, UNREADABLE) if name in file.schema_arrow.names]
            )
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                for row in batch.to_pylist():
                    if isinstance(row.get(UNREADABLE), list):
                        row[UNREADABLE] = dict(row[UNREADABLE])
                    yield row
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _jsonl(path: Path, columns: tuple[str, ...] | None) -> Iterator[dict[str, object]]:
    wanted = None if columns is None else {*columns, UNREADABLE}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a row")  # noqa: TRY004  as of any damaged table
            yield {name: value for name, value in row.items() if wanted is None or name in wanted}


Read = Callable[[Path, tuple[str, ...] | None], Iterator[dict[str, object]]]


def _reader(path: Path) -> Read:
    """What reads the rows of a file, with these columns or (None) all. OSError, ValueError."""
    return _jsonl if path.suffix == ".jsonl" else _parquet
