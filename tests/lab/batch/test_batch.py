"""`hb batch` over real images, good and bad."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batches import Ran, children_of, content, ended
from pyarrow import parquet

from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.dataset import Record, image_id
from hybridbridge_vol.lab.batch.request import PAPER_TOOLS

GOOD = ("a.raw", "b.raw", "sub/c.raw")
BAD = ("cut.raw", "unknown.raw")


def manifest(out: Path) -> dict[str, dict[str, Any]]:
    """The manifest's rows by the file's name."""
    return {Path(row["path"]).name: row for row in parquet.read_table(out / "manifest.parquet").to_pylist()}


def test_every_image_is_a_row_of_the_manifest_and_bad_ones_say_why(undisturbed: Ran, evidence: Any) -> None:
    rows = manifest(undisturbed.out)
    assert set(rows) == {Path(name).name for name in GOOD + BAD}
    for name in GOOD:
        row = rows[Path(name).name]
        assert row["status"] == "ok" and row["error"] is None
        assert [run["tool"] for run in row["tools"]] == list(PAPER_TOOLS)
        assert row["release"].startswith("7.") and row["kernel"].startswith(row["release"])
        assert row["cpus"] == 1 and row["captured"].year >= 2024
        assert row["size"] == os.stat(evidence.folder / name).st_size
    assert (
        "no trusted kernel" in rows["unknown.raw"]["error"] and "hb trust add" in rows["unknown.raw"]["error"]
    )
    assert rows["unknown.raw"]["release"].startswith("6.1.")
    assert rows["cut.raw"]["status"] == "failed" and "truncated" in rows["cut.raw"]["error"]
    assert undisturbed.status == 3
    assert "5 images (3 ok, 2 failed)" in undisturbed.stdout
    assert len(undisturbed.stderr.splitlines()) == 2  # one for each bad image, nothing else


def test_tables_are_read_by_duckdb_with_the_image_as_a_column(undisturbed: Ran, evidence: Any) -> None:
    ids = [image_id(evidence.folder / name) for name in GOOD]
    table = f"read_parquet('{undisturbed.out}/tables/ps/*/*.parquet', hive_partitioning = true)"
    counts = duckdb.sql(
        f"SELECT image, count(*), min(PID) FROM {table} GROUP BY image ORDER BY image"
    ).fetchall()
    assert [row[0] for row in counts] == sorted(ids)
    assert all(count > 20 and first == 1 for _image, count, first in counts)
    joined = duckdb.sql(
        f"SELECT count(*) FROM {table} t JOIN '{undisturbed.out}/manifest.parquet' m ON t.image = m.id WHERE "
        "m.status = 'ok'"
    ).fetchall()
    assert joined == [(sum(count for _image, count, _first in counts),)]
    types = dict(
        duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {table})").fetchall()
    )
    assert (
        types["PID"] == "BIGINT"
        and types["START"] == "TIMESTAMP WITH TIME ZONE"
        and types["depth"] == "INTEGER"
    )
    assert types["unreadable"] == "MAP(VARCHAR, VARCHAR)"


def test_json_lines_hold_the_same_values_as_parquet(
    undisturbed: Ran, evidence: Any, hb_batch: Any, tmp_path: Path
) -> None:
    path = str(evidence.folder / "a.raw")
    ran = ended(hb_batch(tmp_path, "--format", "jsonl", paths=[path]), tmp_path)
    assert ran.status == 0
    for tool in PAPER_TOOLS:
        lines = dataset.table_path(tmp_path, tool, image_id(path), "jsonl")
        other = dataset.table_path(undisturbed.out, tool, image_id(path), "parquet")
        rows = parquet.ParquetFile(other).read().to_pylist(maps_as_pydicts="strict")
        for row in rows:
            for name, value in row.items():
                if hasattr(value, "isoformat"):
                    row[name] = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert [json.loads(line) for line in lines.read_text("utf-8").split("\n") if line] == rows, tool


def test_a_second_run_repeats_nothing_that_is_done(
    undisturbed: Ran, evidence: Any, hb_batch: Any, tmp_path: Path
) -> None:
    paths = [str(evidence.folder / "a.raw")]
    first = ended(hb_batch(tmp_path, "--tools", "uname,ps", paths=paths), tmp_path)
    record = dataset.record_path(tmp_path, image_id(paths[0]))
    stamp = record.stat().st_mtime_ns
    again = ended(hb_batch(tmp_path, "--tools", "uname,ps", paths=paths), tmp_path)
    assert (first.status, again.status) == (0, 0)
    assert "1 of them done before" in again.stdout and record.stat().st_mtime_ns == stamp
    other = ended(hb_batch(tmp_path, "--tools", "uptime", "--sha256", paths=paths), tmp_path)
    assert other.status == 0 and "done before" not in other.stdout
    kept = Record.from_json(record.read_bytes())
    assert [run.tool for run in kept.tools] == ["uptime"] and kept.sha256 and len(kept.sha256) == 64
    assert sorted(path.name for path in (tmp_path / "tables").iterdir() if any(path.iterdir())) == ["uptime"]


def test_a_file_that_is_not_an_image_is_listed_if_it_was_named_and_ignored_otherwise(
    evidence: Any, hb_batch: Any, tmp_path: Path
) -> None:
    ran = ended(hb_batch(tmp_path, paths=[str(evidence.folder / "notes.txt"), "/nowhere/x.raw"]), tmp_path)
    assert ran.status == 1
    rows = manifest(tmp_path)
    assert rows["x.raw"]["error"] == "/nowhere/x.raw: does not exist"
    assert "notes.txt" in rows["notes.txt"]["error"]
    (tmp_path / "empty").mkdir()
    nothing = ended(hb_batch(tmp_path / "out", paths=[str(tmp_path / "empty")]), tmp_path)
    assert nothing.status == 1 and "no memory image" in nothing.stderr


def test_bad_usage_is_one_line(evidence: Any, hb_batch: Any, tmp_path: Path) -> None:
    for arguments, word in (
        (["--tools", "ps,nothing"], "no tool is named 'nothing'"),
        (["--tools", "cat"], "hb run DUMP cat"),
        (["--tools", ","], "no tool"),
    ):
        ran = ended(hb_batch(tmp_path / "out", *arguments), tmp_path)
        assert ran.status == 1 and word in ran.stderr and len(ran.stderr.splitlines()) == 1
    (tmp_path / "file").write_text("")
    ran = ended(hb_batch(tmp_path / "file"), tmp_path)
    assert ran.status == 1 and "cannot be written" in ran.stderr


def gone(pids: list[int]) -> bool:
    """Whether they end within a second or two."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_batch_ends_its_workers_and_keeps_what_is_done(
    number: int, hb_batch: Any, tmp_path: Path
) -> None:
    process = hb_batch(tmp_path, "--jobs", "1")
    until(lambda: len(list((tmp_path / "images").glob("*.json"))) >= 3 and bool(children_of(process.pid)))
    pids = children_of(process.pid)
    process.send_signal(number)
    ran = ended(process, tmp_path)
    assert ran.status == 130 and gone(pids)
    assert "Traceback" not in ran.stderr
    assert len(manifest(tmp_path)) == len(list((tmp_path / "images").glob("*.json")))
    assert not (tmp_path / ".staging").exists()


def killed_at(moment: float, hb_batch: Any, out: Path, workers_too: bool) -> None:
    """Kill a batch after so many seconds, and its workers too or by what they notice themselves; they must be
    gone."""
    process = hb_batch(out)
    time.sleep(moment)
    pids = children_of(process.pid)
    process.kill()
    for pid in pids if workers_too else ():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate(timeout=60)
    assert gone(pids)


def check_killed(seed: int, undisturbed: Ran, hb_batch: Any, out: Path) -> None:
    chance = random.Random(seed)
    killed_at(chance.uniform(0.2, undisturbed.seconds), hb_batch, out, workers_too=bool(seed % 2))
    for record in dataset.records(out):  # what counts as done is whole
        for run in record.tools:
            parquet.ParquetFile(dataset.table_path(out, run.tool, record.id, "parquet")).read()
    again = ended(hb_batch(out), out)
    assert again.status == undisturbed.status
    assert content(out) == content(undisturbed.out)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_goes_on_to_the_same_dataset(
    seed: int, undisturbed: Ran, hb_batch: Any, tmp_path: Path
) -> None:
    check_killed(seed, undisturbed, hb_batch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 20))
def test_killed_at_many_moments_it_goes_on_to_the_same_dataset(
    seed: int, undisturbed: Ran, hb_batch: Any, tmp_path: Path
) -> None:
    check_killed(seed, undisturbed, hb_batch, tmp_path)


def test_two_batches_do_not_share_a_dataset(hb_batch: Any, tmp_path: Path) -> None:
    process = hb_batch(tmp_path)
    until(lambda: (tmp_path / ".staging").exists())
    second = ended(hb_batch(tmp_path), tmp_path)
    assert second.status == 1 and "another batch is at work there" in second.stderr
    process.terminate()
    assert ended(process, tmp_path).status == 130
