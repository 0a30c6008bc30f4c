"""The dataset that a batch fills: where files lie, what is recorded about an image, when it counts as done.

    OUT/tables/TOOL/image=ID/part-0.parquet   rows of one tool on one image (or part-0.jsonl)
        images/ID.json                        the record of a finished image, written last: the image is done
        manifest.parquet, manifest.jsonl      one row for each record, made from the records
        summary.html                          made from manifest and tables
        .staging/RUN/ID/TOOL                  tables of images under way: no reader looks there

Every file is written beside its destination and renamed, so that no reader meets a half-written one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import msgspec

Format = Literal["parquet", "jsonl"]
FORMATS: tuple[Format, ...] = ("parquet", "jsonl")

ToolStatus = Literal["ok", "partial", "failed", "timeout"]
"""`partial`: some cells could not be read. `failed`: no row at all. `timeout`: timed out; it has no table."""
ImageStatus = Literal["ok", "partial", "failed"]
"""`partial`: not every tool is ok. `failed`: no tool was run, `error` says why."""

GENERIC = frozenset(("core", "dump", "image", "mem", "memory", "ram", "vmcore"))
"""File names that say nothing about an image: its directory's name is used instead."""
_LONGEST_SLUG = 40


@dataclass(frozen=True)
class ToolRun:
    """How one tool did on one image. `incomplete`: rows with cells that could not be read. `traps`: from FAST
    to SLOW-BRIDGE. `rolled_back`: calls into the kernel that were rolled back."""

    tool: str
    status: ToolStatus
    rows: int = 0
    incomplete: int = 0
    seconds: float = 0.0
    traps: int = 0
    rolled_back: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Fingerprint:
    """What must be the same for an image to count as done: the file's size (bytes) and modification time,
    what was asked of it, and the version of this program."""

    size: int
    mtime_ns: int
    tools: tuple[str, ...]
    format: Format
    sha256: bool
    version: str
    tool_seconds: float
    kernel_at: int | None = None


@dataclass(frozen=True)
class Record:
    """What is known about one finished image: a row of the manifest. Sizes in bytes, times in seconds.
    `captured`: capture time since the epoch, by the guest's clock. `kernel`: the entry's name in the trust
    store. `asked`: what the image was examined for. `notes`: what should be known of every answer."""

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
    asked: Fingerprint
    notes: str | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Read a record back. ValueError if it is not one, or one that another version of this program
        wrote."""
        try:
            return msgspec.convert(json.loads(data), type=cls)
        except (ValueError, RecursionError):
            raise ValueError("not a record of an image") from None

    def to_json(self) -> bytes:
        """One JSON object, in one line of ASCII."""
        return json.dumps(asdict(self)).encode() + b"\n"


MANIFEST_COLUMNS = tuple(field.name for field in fields(Record) if field.name != "asked")


def image_id(path: str | os.PathLike[str]) -> str:
    """A short name for the image at `path`: readable, usable as a directory name, the same for the same
    absolute path."""
    absolute = os.path.abspath(path)
    folder, stem = Path(absolute).parent.name, Path(absolute).stem
    readable = folder if stem.lower() in GENERIC else stem
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", readable)[:_LONGEST_SLUG].strip("-.")
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest


def table_path(out: Path, tool: str, image: str, form: Format) -> Path:
    """The table of a tool on an image, in Hive partitioning: the partition key is `image`."""
    return out / "tables" / tool / f"image={image}" / f"part-0.{form}"


def record_path(out: Path, image: str) -> Path:
    """The record of a finished image."""
    return out / "images" / f"{image}.json"


def staging_root(out: Path) -> Path:
    """The directory of everything unfinished."""
    return out / ".staging"


def read_record(out: Path, image: str) -> Record | None:
    """The record of an image; None if it is not done (or the record is of another version)."""
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
    """Move a finished image into the dataset: first the tables (by tool, files on the same file system), then
    the record. What an earlier examination of the image left is removed before."""
    forget(out, record.id)
    for tool, source in tables.items():
        target = table_path(out, tool, record.id, "jsonl" if source.suffix == ".jsonl" else "parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    write_durably(record_path(out, record.id), record.to_json())


def forget(out: Path, image: str) -> None:
    """Remove an image from the dataset, its record first; it need not be there."""
    record_path(out, image).unlink(missing_ok=True)
    for folder in (out / "tables").glob(f"*/image={image}"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never a part, even after a power
    loss."""
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
