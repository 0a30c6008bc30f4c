"""The summary of a real guest's image, against what the guest itself said before it was frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import record
from generations import Lab

from hybridbridge_vol import tools
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.manifest import write_manifest
from hybridbridge_vol.lab.batch.summary import write_summary
from hybridbridge_vol.lab.batch.summary.data import read_images, read_tables
from hybridbridge_vol.lab.batch.summary.facts import Facts, facts_of
from hybridbridge_vol.lab.batch.tables import write_table

NAME = "6.1 two CPUs"


@pytest.fixture(scope="module")
def known(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Facts]:
    """The dataset of one image, and what is known of it."""
    out, session = tmp_path_factory.mktemp("real"), lab.session(NAME)
    made: dict[str, Path] = {}
    counts: dict[str, list[dict[str, Any]]] = {}
    for name in ("ps", "lsof", "uptime", "dmesg", "lsmod"):
        tool = tools.load(name)
        options = tool.defaults()
        made[name] = out / f"{name}.parquet"
        written = write_table(
            made[name], "parquet", tool, tool.columns_for(options), tool.rows(session, options)
        )
        assert written.error is None
        counts[name] = [{}] * written.rows
    path = str(lab.sample(NAME).dump)
    dataset.commit(out, record(out, path, counts, captured=None), made)
    write_manifest(out)
    (image,) = read_images(out)
    return out, facts_of(image, read_tables(out, image))


def rows(facts: Facts, rule: str) -> list[Any]:
    return [row for finding in facts.findings if finding.rule.name == rule for row in finding.rows]


def test_deleted_programs_are_those_that_the_guest_named(lab: Lab, known: tuple[Path, Facts]) -> None:
    truth = lab.sample(NAME).truth
    gone = {
        (int(path.split("/")[2]), reading.data.decode())
        for path, reading in truth.links.items()
        if path.endswith("/exe") and path.count("/") == 3 and reading.data.endswith(b"(deleted)")
    }
    assert gone and {(row["PID"], row["FILE"]) for row in rows(known[1], "unlinked")} == gone


def test_the_process_that_looks_like_a_kernel_thread_is_the_one_that_runs_from_memory(
    known: tuple[Path, Facts],
) -> None:
    (poser,) = rows(known[1], "poses")
    assert [row["FILE"] for row in rows(known[1], "unlinked") if row["PID"] == poser["PID"]] == [
        "/memfd:payload (deleted)"
    ]


def test_the_timeline_holds_every_process(lab: Lab, known: tuple[Path, Facts]) -> None:
    moments = known[1].moments
    assert moments.booted is not None and moments.captured is not None
    assert len(moments.starts) + len(moments.thread_starts) == len(lab.sample(NAME).truth.processes)
    assert b'class="timeline"' in write_summary(known[0]).read_bytes()
