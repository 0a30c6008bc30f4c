"""Mutants of a real image (benchmarks/hostile): every tool ends well on each of them."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile.campaign import run
from benchmarks.hostile.mutants import KINDS
from hybridbridge_vol import tools

Lab = Any
FEW = ("ps", "lsmod", "netstat")


@pytest.mark.parametrize(
    ("count", "names"),
    [(len(KINDS), FEW), pytest.param(200, None, marks=pytest.mark.slow)],
    ids=["one of each kind", "200, all tools"],
)
def test_on_every_mutant_each_tool_ends_well(
    lab: Lab, tmp_path: Path, count: int, names: tuple[str, ...] | None
) -> None:
    log = tmp_path / "log.jsonl"
    verdicts = list(run(lab.sample("6.12").raw, lab.store.root, count, 7, log, names=names))
    assert len(verdicts) == count
    assert [verdict.failures for verdict in verdicts if verdict.failures] == []
    kinds = {json.loads(line)["kind"] for line in log.read_text().splitlines()}
    assert kinds == set(KINDS)
    # they are hostile: answers change, and rows say that they could not be read
    assert sum(sum(verdict.changed.values()) for verdict in verdicts) > 0
    assert sum(verdict.statuses.get("partial", 0) for verdict in verdicts) > 0


PS = tools.load("ps").rows
MUTANTS = 12


@pytest.fixture(scope="module")
def folder(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for logs, where it is known what the tool as it is says of the good image; on the first mutant
    it ends well."""
    folder = tmp_path_factory.mktemp("mutants")
    (verdict,) = run(lab.sample("6.12").raw, lab.store.root, 1, 7, folder / "as it is", names=("ps",))
    assert verdict.failures == ()
    return folder


def crashes(_kernel: Any, _options: Any) -> Iterator[Any]:
    faulthandler.disable()  # pytest's would write a page about it
    os.kill(os.getpid(), signal.SIGSEGV)
    yield


def has_a_bug(_kernel: Any, _options: Any) -> Iterator[Any]:
    yield 1 / 0


def writes(kernel: Any, options: Any) -> Iterator[Any]:
    with open(kernel.bridge.image.path, "r+b") as stream:
        stream.write(b"x")
    yield from PS(kernel, options)


def loses_a_row(kernel: Any, options: Any) -> Iterator[Any]:
    yield from list(PS(kernel, options))[1:]


@pytest.mark.parametrize(
    ("rows", "failure"),
    [
        (crashes, "signal 11"),
        (has_a_bug, "ZeroDivisionError"),
        (writes, "the image was written"),
        (loses_a_row, "nothing explains that this row changed: (0, 1,"),
    ],
)
def test_a_tool_that_does_not_end_well_is_a_failure(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: Callable[..., Any], failure: str
) -> None:
    image, log = lab.sample("6.12").raw, folder / rows.__name__
    monkeypatch.setattr(tools.load("ps"), "rows", rows)
    # what a mutant changes may explain a lost row; not what each of several changes
    campaign = run(image, lab.store.root, MUTANTS, 7, log, names=("ps",))
    verdict = next(verdict for verdict in campaign if verdict.failures)
    assert len(verdict.failures) == 1 and failure in verdict.failures[0]


def waits_for_ever(_kernel: Any, _options: Any) -> Iterator[Any]:
    signal.pause()
    yield


def test_of_a_tool_that_does_not_end_it_is_said_where_it_was(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, log = lab.sample("6.12").raw, folder / "waits"
    monkeypatch.setattr("benchmarks.hostile.trial.WAITING_SECONDS", 5.0)
    monkeypatch.setattr(tools.load("ps"), "rows", waits_for_ever)
    (verdict,) = run(image, lab.store.root, 1, 7, log, names=("ps",))
    assert len(verdict.failures) == 1 and verdict.failures[0].startswith("did not end: File")
    assert "waits_for_ever" in verdict.failures[0]


def test_a_tool_that_takes_too_much_is_a_failure(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, log = lab.sample("6.12").raw, folder / "takes"
    monkeypatch.setattr("benchmarks.hostile.campaign.OVER", 1e-6)
    (verdict,) = run(image, lab.store.root, 1, 7, log, names=("ps",))
    assert any("of processor time" in failure for failure in verdict.failures)
    assert any("memory" in failure for failure in verdict.failures)
