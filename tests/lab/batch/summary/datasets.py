"""Datasets with chosen rows, written by what `hb batch` writes them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.dataset import Fingerprint, Format, Record, ToolRun
from hybridbridge_vol.lab.batch.manifest import write_manifest
from hybridbridge_vol.lab.batch.summary.data import Image, Tables
from hybridbridge_vol.lab.batch.summary.facts import Facts, facts_of
from hybridbridge_vol.lab.batch.tables import write_table
from hybridbridge_vol.toolkit.tool import Row

BOOTED, CAPTURED = 1_795_429_000.0, 1_795_429_600.0
TablesOf = Mapping[str, Sequence[Mapping[str, Any]]]

UPTIME = {"NOW": CAPTURED, "UP": CAPTURED - BOOTED, "BOOTED": BOOTED}
INIT = {
    "PID": 1,
    "PPID": 0,
    "UID": 0,
    "STAT": "Ss",
    "START": BOOTED + 1,
    "VSZ": 2260,
    "COMM": "init",
    "CMD": "/sbin/init",
}
KTHREADD = {
    "PID": 2,
    "PPID": 0,
    "UID": 0,
    "STAT": "S",
    "START": BOOTED,
    "VSZ": 0,
    "COMM": "kthreadd",
    "CMD": "[kthreadd]",
}


def process(pid: int, command: str, **other: Any) -> dict[str, Any]:
    """A row of `ps`."""
    return {**INIT, "PID": pid, "PPID": 1, "COMM": command.split("/")[-1][:15], "CMD": command, **other}


def thread(pid: int, name: str, **other: Any) -> dict[str, Any]:
    """A row of `ps`, of a kernel thread."""
    return {**KTHREADD, "PID": pid, "PPID": 2, "COMM": name, "CMD": f"[{name}]", **other}


def record(out: Path, path: str, tables: TablesOf, **other: Any) -> Record:
    """The record of an image that was examined, or failed if `error` is given."""
    facts: dict[str, Any] = {
        "id": dataset.image_id(path), "path": path, "size": 1 << 28, "sha256": None, "format": "raw",
        "kernel": "6.1.0-x-0123", "release": "6.1.0-x", "banner": "Linux version 6.1.0-x",
        "captured": CAPTURED, "cpus": 2, "seconds": 0.5, "cpu_seconds": 0.5, "peak_rss": 1 << 27,
        "status": "ok", "error": None, "version": "0.1.0",
        "asked": Fingerprint(1 << 28, 0, tuple(tables), "parquet", False, "0.1.0", 120.0),
        "tools": tuple(ToolRun(tool, "ok", len(rows), seconds=0.1) for tool, rows in tables.items()),
    }  # fmt: skip
    return Record(**facts | other)


def write_dataset(
    out: Path, images: Mapping[str, TablesOf], form: Format = "parquet", **others: Mapping[str, Any]
) -> Path:
    """A dataset of images by their paths; `others` are fields of their records by the path's stem."""
    out.mkdir(exist_ok=True)
    for path, tables in images.items():
        made = {}
        for name, rows in tables.items():
            tool = tools.load(name)
            columns = tool.columns_for(tool.defaults())
            made[name] = out / f"{name}.{form}"
            cells = (Row(tuple(row.get(column.name) for column in columns)) for row in rows)
            write_table(made[name], form, tool, columns, cells)
        dataset.commit(out, record(out, path, tables, **others.get(Path(path).stem, {})), made)
    write_manifest(out)
    return out


def image(name: str = "a", kernel: str = "6.1.0-x-0123", **tools: ToolRun) -> Image:
    """A row of the manifest."""
    return Image(
        id=name, name=name, path=f"/evidence/{name}.raw", status="ok", size=1 << 28, format="raw",
        kernel=kernel, release="6.1.0-x", banner="Linux version 6.1.0-x", captured=CAPTURED, cpus=2,
        tools=tuple(tools.values()), seconds=0.5, version="0.1.0",
    )  # fmt: skip


def facts(name: str = "a", kernel: str = "6.1.0-x-0123", **tables: Sequence[Mapping[str, Any]]) -> Facts:
    """What is known of an image with these tables."""
    runs = {tool: ToolRun(tool, "ok", len(rows)) for tool, rows in tables.items()}
    return facts_of(image(name, kernel, **runs), Tables({tool: list(rows) for tool, rows in tables.items()}))
