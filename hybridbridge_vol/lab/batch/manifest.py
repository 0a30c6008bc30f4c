"""The manifest: one row for each image of the dataset, made from the records."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridbridge_vol.lab.batch.dataset import MANIFEST_COLUMNS, Record, records, write_durably
from hybridbridge_vol.toolkit.cells import iso, without_surrogates

if TYPE_CHECKING:
    import pyarrow

_FLOATS = ("seconds", "cpu_seconds")
_INTS = ("size", "cpus", "peak_rss")


def write_manifest(out: Path) -> list[Record]:
    """Write manifest.jsonl, and manifest.parquet if pyarrow is installed; returns the records, by path."""
    found = sorted(records(out), key=lambda record: record.path)
    rows = [row_of(record) for record in found]
    lines = [json.dumps(row | {"captured": _text(row["captured"])}) for row in rows]
    write_durably(out / "manifest.jsonl", "".join(f"{line}\n" for line in lines).encode())
    try:
        import pyarrow  # an optional package
        from pyarrow import parquet
    except ImportError:
        return found
    schema = manifest_schema()
    table = pyarrow.Table.from_pylist(rows, schema=schema)
    temporary = out / f".manifest.parquet.{os.getpid()}.new"
    parquet.write_table(table, temporary, compression="zstd")
    os.replace(temporary, out / "manifest.parquet")
    return found


def row_of(record: Record) -> dict[str, object]:
    """The row of a record; `captured` in milliseconds since the epoch."""
    row = {name: value for name, value in asdict(record).items() if name in MANIFEST_COLUMNS}
    row["tools"] = [{name: _plain(value) for name, value in run.items()} for run in row["tools"]]
    row["captured"] = None if record.captured is None else math.floor(record.captured * 1000)
    return {name: _plain(value) for name, value in row.items()}


def _text(captured: object) -> str | None:
    return iso(captured) if isinstance(captured, int) else None


def _plain(value: object) -> object:
    return without_surrogates(value) if isinstance(value, str) else value


def manifest_schema() -> pyarrow.Schema:
    """The Arrow schema of the manifest."""
    import pyarrow

    run = pyarrow.struct([
        ("tool", pyarrow.string()), ("status", pyarrow.string()), ("rows", pyarrow.int64()),
        ("incomplete", pyarrow.int64()), ("seconds", pyarrow.float64()), ("traps", pyarrow.int64()),
        ("rolled_back", pyarrow.int64()), ("error", pyarrow.string()),
    ])  # fmt: skip
    types: dict[str, Any] = {"captured": pyarrow.timestamp("ms", "UTC"), "tools": pyarrow.list_(run)}
    types |= dict.fromkeys(_FLOATS, pyarrow.float64()) | dict.fromkeys(_INTS, pyarrow.int64())
    return pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in MANIFEST_COLUMNS])
