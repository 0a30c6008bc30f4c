"""A batch on a Dask cluster: a real scheduler and two real workers on loopback."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_copies import copy_without_memos

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.assembly import Examination
from hybridbridge_vol.lab.batch.bundle import add_memos, checksum_of, pack_entry, read_memos, unpack_entry
from hybridbridge_vol.lab.batch.engines import dask_worker
from hybridbridge_vol.lab.batch.engines.dask import DaskEngine
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.trust.store import Store

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ("ps", "uname")
SECONDS = 120.0


class Cluster:
    """A scheduler and its workers; the test that starts it ends it."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._start(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(folder / "where"),
        )
        until(lambda: (folder / "where").exists() and (folder / "where").stat().st_size > 0)
        self.address: str = json.loads((folder / "where").read_text())["address"]
        self.workers = [self.worker(number) for number in range(workers)]

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        line = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        with open(self._folder / f"log-{len(self._processes)}", "wb") as log:
            process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)
        self._processes.append(process)
        return process

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        """One more worker."""
        own = self._folder / f"worker-{number}"
        own.mkdir()
        return self._start(
            "worker",
            self.address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--local-directory",
            str(own),
        )

    def close(self) -> None:
        """End what was started, the scheduler last."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder, 2)
    yield made
    made.close()


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def requests(evidence: Any, tmp_path: Path) -> list[Request]:
    kernel = Store(evidence.store).kernels()[0].name
    return [
        Request(
            name,
            str(evidence.folder / f"{name}.raw"),
            str(tmp_path / "staging" / name),
            TOOLS,
            store=str(evidence.store),
            kernel=kernel,
        )
        for name in ("a", "b", "sub/c")
    ]


def answered(engine: DaskEngine, asked: list[Request]) -> dict[str, Examination]:
    for request in asked:
        engine.submit(request)
    found = list(engine.finished())
    assert len(found) == len({item.record.id for item in found})
    return {item.record.id: item for item in found}


def test_a_batch_on_two_workers_of_which_one_is_killed_answers_every_image_once(
    evidence: Any, hb_batch: Any, cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    batch = hb_batch(out, "--engine", "dask", "--scheduler", cluster.address, "--tools", "ps,uname,lsmod")
    until(lambda: any(dataset.records(out)), SECONDS)
    cluster.workers[0].send_signal(signal.SIGKILL)
    assert batch.wait(SECONDS) == 3
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert len({line["path"] for line in lines}) == len(lines)
    by_name = {Path(line["path"]).name: line for line in lines}
    assert {name: by_name[name]["status"] for name in ("a.raw", "b.raw", "c.raw")} == dict.fromkeys(
        ("a.raw", "b.raw", "c.raw"), "ok"
    )
    assert by_name["unknown.raw"]["status"] == "failed"


def test_an_image_is_given_to_another_worker_when_its_own_is_killed(
    evidence: Any, cluster: Cluster, tmp_path: Path
) -> None:
    steps: list[tuple[str, str]] = []
    killed: list[int] = []

    def step(image: str, name: str) -> None:
        steps.append((image, name))
        if not killed and name in TOOLS:
            killed.append(1)
            cluster.workers[0].send_signal(signal.SIGKILL)

    engine = DaskEngine(1, step, cluster.address)
    try:
        found = answered(engine, requests(evidence, tmp_path))
    finally:
        engine.close()
    assert killed
    assert {name: item.record.status for name, item in found.items()} == {"a": "ok", "b": "ok", "sub/c": "ok"}
    assert all(Path(path).stat().st_size for item in found.values() for path in item.tables.values())
    assert {step for _image, step in steps} >= set(TOOLS)


def test_an_answer_whose_worker_ended_before_it_was_fetched_is_made_again(
    evidence: Any, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DaskEngine(1, address=cluster.address)
    killed: list[int] = []
    plain = engine._answer

    def answer(future: Any, request: Request) -> Examination | None:
        if not killed:
            (holder,) = engine._client.who_has([future])[future.key]
            killed.append(engine._client.run(os.getpid, workers=[holder])[holder])
            os.kill(killed[0], signal.SIGKILL)
            until(lambda: future.status != "finished")
        return plain(future, request)

    monkeypatch.setattr(engine, "_answer", answer)
    try:
        found = answered(engine, requests(evidence, tmp_path)[:1])
    finally:
        engine.close()
    assert killed and found["a"].record.status == "ok"


def test_a_worker_without_the_store_gets_the_kernel_and_sends_back_what_it_proved(
    evidence: Any, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(evidence, tmp_path)
    store = Store(tmp_path / "store")
    kernel = Store(evidence.store).kernels()[0]
    copy_without_memos(kernel, store)
    asked = [replace(request, store=str(store.root)) for request in asked]
    real = dask_worker.Source

    def elsewhere(_store: str, *rest: Any) -> dask_worker.Source:
        return real(str(tmp_path / "no share here"), *rest)

    monkeypatch.setattr("hybridbridge_vol.lab.batch.engines.dask.Source", elsewhere)
    engine = DaskEngine(1, address=cluster.address)
    try:
        found = answered(engine, asked[:2])
        assert read_memos(store.root / kernel.name)
        again = answered(engine, [replace(asked[2], id="again")])
    finally:
        engine.close()
    assert [item.record.status for item in found.values()] == ["ok", "ok"]
    assert sum(run.traps for item in found.values() for run in item.record.tools) > 0
    assert sum(run.traps for run in again["again"].record.tools) == 0


def test_an_image_that_a_worker_cannot_reach_says_so(evidence: Any, cluster: Cluster, tmp_path: Path) -> None:
    asked = replace(requests(evidence, tmp_path)[0], path=str(tmp_path / "only-here.raw"))
    engine = DaskEngine(1, address=cluster.address)
    try:
        found = answered(engine, [asked])
    finally:
        engine.close()
    assert found["a"].record.status == "failed"
    assert "not found on worker" in str(found["a"].record.error)


def test_without_an_address_a_cluster_is_started_here(evidence: Any, hb_batch: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch = hb_batch(
        out, "--engine", "dask", "--jobs", "1", "--tools", "uname", paths=[str(evidence.folder / "a.raw")]
    )
    assert batch.wait(SECONDS) == 0
    assert [record.status for record in dataset.records(out)] == ["ok"]


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_batch_with_one_line(
    evidence: Any, hb_batch: Any, cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    batch = hb_batch(out, "--engine", "dask", "--scheduler", cluster.address)
    time.sleep(4)
    cluster.close()
    assert batch.wait(SECONDS) == 1
    until(lambda: batch.poll() is not None)
    assert hb_batch(out, "--tools", "uname").wait(SECONDS) == 3


def test_no_scheduler_or_no_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridbridge_vol.lab.batch.engines.dask.CONNECT_SECONDS", 1)
    monkeypatch.setattr("hybridbridge_vol.lab.batch.engines.dask.WORKER_SECONDS", 1)
    with pytest.raises(BatchError, match=r"tcp://127.0.0.1:1: no Dask scheduler answers there"):
        DaskEngine(1, address="tcp://127.0.0.1:1")
    folder = tmp_path / "cluster"
    folder.mkdir()
    idle = Cluster(folder, 0)
    try:
        with pytest.raises(BatchError, match=r"the scheduler has no worker"):
            DaskEngine(1, address=idle.address)
    finally:
        idle.close()


def test_a_store_entry_arrives_as_it_was_sent(evidence: Any, tmp_path: Path) -> None:
    kernel = Store(evidence.store).kernels()[0]
    unpack_entry(pack_entry(kernel.folder), tmp_path / kernel.name)
    sent = Store(tmp_path).kernels()[0]
    assert checksum_of(sent.folder) == checksum_of(kernel.folder)
    Store(tmp_path).show(kernel.name)  # checks the memory against its sums
    memos = read_memos(kernel.folder)  # others may prove more meanwhile
    add_memos(sent.folder, memos | {"memo-3-x": b"not a memo"})
    assert read_memos(sent.folder) == memos


def test_a_file_that_leads_out_of_the_store_is_refused(tmp_path: Path) -> None:
    for name in ("../evil", "/etc/evil", "boot-1/../../evil", ".memo-lock", "boot-1/a/b"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(Exception, match="not a stored kernel"):
            unpack_entry(packed.getvalue(), tmp_path / "store" / "entry")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "store" / "entry").exists()
