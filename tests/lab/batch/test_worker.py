"""A worker: one image at a time, in a child whose death is an answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batches import Ran, children_of, content

from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.dataset import image_id
from hybridbridge_vol.lab.batch.request import PAPER_TOOLS, Request
from hybridbridge_vol.lab.batch.worker.client import WorkerClient


def request_for(evidence: Any, tmp_path: Path, **fields: Any) -> Request:
    path = str(evidence.folder / "a.raw")
    return replace(
        Request(image_id(path), path, str(tmp_path / "staging"), store=str(evidence.store)), **fields
    )


def stop_at(tool: str, client: WorkerClient, number: int) -> Callable[[str], None]:
    """Sends a signal to the child as soon as it begins with a tool."""

    def step(name: str) -> None:
        if name == tool:
            assert client._process is not None
            (child,) = children_of(client._process.pid)
            os.kill(child, number)

    return step


@pytest.mark.parametrize(("number", "status", "why"), [
    (signal.SIGSTOP, "timeout", "timed out after 3 s"), (signal.SIGSEGV, "failed", "was ended by SIGSEGV"),
])  # fmt: skip
def test_a_tool_that_hangs_or_crashes_does_not_affect_the_other_tools(
    number: int, status: str, why: str, undisturbed: Ran, evidence: Any, tmp_path: Path
) -> None:
    with WorkerClient() as client:
        request = request_for(evidence, tmp_path, tool_seconds=3.0)
        examination = client.examine(request, stop_at("ps", client, number))
        bad = {run.tool: run for run in examination.record.tools if run.status != "ok"}
        assert examination.record.status == "partial" and list(bad) == ["ps"]
        assert bad["ps"].status == status and why in str(bad["ps"].error)
        assert set(examination.tables) == set(PAPER_TOOLS) - {"ps"}
        dataset.commit(
            tmp_path, examination.record, {tool: Path(path) for tool, path in examination.tables.items()}
        )
        other = client.examine(request)
    whole = content(undisturbed.out)
    for name, rows in content(tmp_path / "tables").items():
        assert rows == whole[f"tables/{name}"]
    assert other.record.status == "ok"  # the client works as before


def test_an_image_that_takes_too_long_times_out_as_a_whole(evidence: Any, tmp_path: Path) -> None:
    with WorkerClient() as client:
        request = request_for(evidence, tmp_path, image_seconds=8.0)
        record = client.examine(request, stop_at("lsmod", client, signal.SIGSTOP)).record
    assert record.seconds < 60
    late = [run for run in record.tools if run.status == "timeout"]
    assert {run.tool for run in late} == set(PAPER_TOOLS[PAPER_TOOLS.index("lsmod") :])
    assert all(run.error == "the image's time was over" for run in late)


def test_a_killed_worker_is_an_answer_and_the_next_image_gets_a_new_worker(
    evidence: Any, tmp_path: Path
) -> None:
    with WorkerClient() as client:

        def kill(name: str) -> None:
            if name == "ps":
                assert client._process is not None
                client._process.kill()

        request = request_for(evidence, tmp_path)
        record = client.examine(request, kill).record
        assert record.status == "failed" and "was killed" in str(record.error)
        assert client.examine(request).record.status == "ok"


def test_the_image_is_not_changed(evidence: Any, tmp_path: Path) -> None:
    path = tmp_path / "private.raw"
    path.write_bytes((evidence.folder / "a.raw").read_bytes())
    path.chmod(0o400)
    before = path.stat()
    with WorkerClient() as client:
        request = request_for(evidence, tmp_path, path=str(path), sha256=True)
        first, second = (client.examine(request).record for _ in range(2))
    assert first.sha256 == second.sha256
    assert (before.st_mtime_ns, before.st_size) == (path.stat().st_mtime_ns, path.stat().st_size)
    assert first.asked.mtime_ns == before.st_mtime_ns
