"""The dataset that a batch fills: where things lie, what is said of an image, when it counts as done.

    OUT/tables/TOOL/image=ID/part-0.parquet   rows of one tool on one image (or part-0.jsonl)
        images/ID.json                        the record of a finished image, written last: what has one is done
        manifest.parquet, manifest.jsonl      one row for each record, made from them
        summary.html                          made from manifest and tables
        .staging/RUN/ID/TOOL                  tables of images under way: no reader looks there

Every file is written beside its place and put there by a rename, so that no reader meets a half-written one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

Format = Literal["parquet", "jsonl"]
FORMATS: tuple[Format, ...] = ("parquet", "jsonl")

ToolStatus = Literal["ok", "partial", "failed", "timeout"]
"""`partial`: some cells could not be read. `failed`: no row at all. `timeout`: cut off; it has no table."""
ImageStatus = Literal["ok", "partial", "failed"]
"""`partial`: not every tool is ok. `failed`: no tool was run, `error` says why."""

GENERIC = frozenset(("core", "dump", "image", "mem", "memory", "ram", "vmcore"))
"""Names that tell nothing of an image: its folder's is taken instead."""
_LONGEST_SLUG = 40


@dataclass(frozen=True)
class ToolRun:
    """What one tool did on one image. `incomplete`: rows with cells that could not be read; `traps` from FAST
    to SLOW-BRIDGE; `rolled_back` calls into the kernel that were thrown away."""

    tool: str
    status: ToolStatus
    rows: int = 0
    incomplete: int = 0
    seconds: float = 0.0
    traps: int = 0
    rolled_back: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Record:
    """What is known of one finished image: a row of the manifest. Sizes in bytes, times in seconds,
    `captured` since the epoch by the snapshot's clock, `kernel` the entry's name in the trust store. `asked`
    is what must be the same for it to count as done (`examine.fingerprint`)."""

    id: str
    path: str
    size: int
    sha256: str | None
    format: str | None
    kernel: str | None
    release: str | None
    banner: str | None
    captured: float | None
    cpus: int | None
    tools: tuple[ToolRun, ...]
    seconds: float
    cpu_seconds: float
    peak_rss: int
    status: ImageStatus
    error: str | None
    version: str
    asked: dict[str, Any]

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Read a record back. ValueError if it is none, or one of another version of this program."""
        try:
            record = json.loads(data)
            record["tools"] = tuple(ToolRun(**run) for run in record["tools"])
            return cls(**record)
        except (ValueError, TypeError, KeyError):
            raise ValueError("not a record of an image") from None

    def to_json(self) -> bytes:
        """One JSON object, in one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


MANIFEST_COLUMNS = tuple(field.name for field in fields(Record) if field.name != "asked")


def image_id(path: str | os.PathLike[str]) -> str:
    """A short name for the image at `path`: readable, fit for a folder's name, the same for the same absolute
    path."""
    absolute = os.path.abspath(path)
    folder, stem = Path(absolute).parent.name, Path(absolute).stem
    readable = folder if stem.lower() in GENERIC else stem
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", readable)[:_LONGEST_SLUG].strip("-.")
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest


def table_path(out: Path, tool: str, image: str, form: Format) -> Path:
    """Where the rows of a tool on an image lie; hive partitioning, the partition is `image`."""
    return out / "tables" / tool / f"image={image}" / f"part-0.{form}"


def record_path(out: Path, image: str) -> Path:
    """Where the record of a finished image lies."""
    return out / "images" / f"{image}.json"


def staging_root(out: Path) -> Path:
    """Below it lies what is not finished."""
    return out / ".staging"


def read_record(out: Path, image: str) -> Record | None:
    """The record of an image; None if it is not done (or its record is another program's)."""
    try:
        return Record.from_json(record_path(out, image).read_bytes())
    except (OSError, ValueError):
        return None


def records(out: Path) -> Iterator[Record]:
    """All records, by id."""
    for path in sorted((out / "images").glob("*.json")):
        record = read_record(out, path.stem)
        if record is not None:
            yield record


def commit(out: Path, record: Record, tables: dict[str, Path]) -> None:
    """Put a finished image into the dataset: first the tables (by tool, files of the same file system), then
    the record.

    What an earlier examination of the image has left is taken away before, its record first.
    """
    forget(out, record.id)
    for tool, source in tables.items():
        target = table_path(out, tool, record.id, "jsonl" if source.suffix == ".jsonl" else "parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    write_durably(record_path(out, record.id), record.to_json())


def forget(out: Path, image: str) -> None:
    """Take an image out of the dataset, its record first; it need not be there."""
    record_path(out, image).unlink(missing_ok=True)
    for folder in (out / "tables").glob(f"*/image={image}"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a reader, even after a loss of power, finds the old one or the new one, never a
    part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
