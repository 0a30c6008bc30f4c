"""What a batch makes of its records when it ends: the manifest and the summary."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

from pyarrow import parquet

from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.batch import finish
from hybridbridge_vol.lab.batch.dataset import Fingerprint, Record, ToolRun

RUN = ToolRun("ps", "partial", rows=5, incomplete=1, seconds=0.5, traps=7, rolled_back=3, error="page fault")
RECORD = Record(
    id="web-1", path="/evidence/web.raw", size=1 << 28, sha256="ab" * 32, format="raw",
    kernel="6.1.0-40-0123", release="6.1.0-40", banner="Linux version 6.1.0-40", captured=1.5, cpus=2,
    tools=(RUN,), seconds=2.5, cpu_seconds=2.0, peak_rss=1 << 27, status="partial", error=None,
    version="0.1.0", asked=Fingerprint(1 << 28, 0, ("ps",), "parquet", False, "0.1.0", 120.0),
)  # fmt: skip


def test_the_manifest_has_every_field_of_a_record_and_of_its_tool_runs(tmp_path: Path) -> None:
    dataset.commit(tmp_path, RECORD, {})
    finish(tmp_path)
    (line,) = (tmp_path / "manifest.jsonl").read_text().splitlines()
    (row,) = parquet.read_table(tmp_path / "manifest.parquet").to_pylist()
    for shown in (json.loads(line), row):
        assert set(shown) == {field.name for field in fields(Record)} - {"asked"}
        assert shown["tools"] == [asdict(RUN)]
        assert shown["peak_rss"] == 1 << 27


def test_a_finished_batch_has_a_summary(tmp_path: Path) -> None:
    dataset.commit(tmp_path, RECORD, {})
    finish(tmp_path)
    assert "web" in (tmp_path / "summary.html").read_text()
