"""Batches that have ended, and the processes of those that run."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet

MOVES = ("seconds", "cpu_seconds", "peak_rss", "traps", "rolled_back")
"""What differs from run to run."""


@dataclass(frozen=True)
class Ran:
    """A batch that has ended: its dataset, exit status, outputs, and how long it took."""

    out: Path
    status: int
    stdout: str
    stderr: str
    seconds: float = 0.0


def ended(process: subprocess.Popen[bytes], out: Path) -> Ran:
    started = time.monotonic()
    stdout, stderr = process.communicate(timeout=120)
    return Ran(out, process.returncode, stdout.decode(), stderr.decode(), time.monotonic() - started)


def content(out: Path) -> dict[str, Any]:
    """All that a dataset says, but for what moves; every file of it is read."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock"):
        name = str(path.relative_to(out))
        if path.name == "manifest.parquet":
            found[name] = [still(row) for row in parquet.read_table(path).to_pylist()]
        elif path.suffix == ".parquet":
            found[name] = parquet.ParquetFile(path).read().to_pylist()
        elif path.suffix in (".json", ".jsonl"):
            found[name] = [still(json.loads(line)) for line in path.read_text("utf-8").split("\n") if line]
        elif path.name != "summary.html":
            found[name] = path.read_bytes()
    return found


def still(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in MOVES}
    if "tools" in kept:
        kept["tools"] = [still(run) for run in kept["tools"]]
    return kept


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, theirs included."""
    try:
        own = [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return own + [one for child in own for one in children_of(child)]
