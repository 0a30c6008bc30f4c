"""Running many mutants of one image, and judging what the tools made of each."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.hostile.commands import failures_of_a_command
from benchmarks.hostile.mutants import Mutant, Source, mutants
from benchmarks.hostile.places import TRACED, Places, find_places
from benchmarks.hostile.trial import ALL_TOOLS, Outcome, chosen_tools, examine, in_child
from hybridbridge_vol import tools
from hybridbridge_vol.allowance import ANSWER_MEMORY, SLOWER_UNDER_TAINT
from hybridbridge_vol.trust.files import write_atomically
from samples.make import sha256_of

SESSION_MEMORY = 400 << 20
"""Bytes that a session takes beside what a tool may take: Python, the emulator's translated code."""
OVER = 1.1
"""A limit is noticed a little late."""


class Verdict(NamedTuple):
    """`failures`: what must not be. Of the tools of one mutant, how many were complete, partial, ended by a
    limit or by a one-line error; of their rows, how many changed, and how many of those neither rest on
    changed bytes nor say what could not be read."""

    failures: tuple[str, ...]
    statuses: dict[str, int]
    rows: int
    changed: int
    unexplained: int


def judge(
    mutant: Mutant, outcome: Outcome, places: Places, good: dict[str, list[str]], slow: bool
) -> Verdict:
    """What is to be said of one mutant."""
    failures = list(_failures(outcome, places, slow))
    statuses: Counter[str] = Counter()
    rows = changed = unexplained = 0
    for name, result in outcome.results.items():
        status = str(result["status"]).partition(":")[0]
        statuses["limit" if result["limit"] else status] += 1
        if name not in places.rows or status != "complete" or result["limit"]:
            continue
        now = set(result["rows"])
        for text, under in places.rows[name]:
            if text not in good.get(name, ()):
                continue  # it moves from one session to the next
            rows += 1
            if text not in now:
                changed += 1
                unexplained += not any(_meets(span, mutant) for span in under)
    return Verdict(tuple(failures), dict(statuses), rows, changed, unexplained)


def _meets(span: tuple[int, int], mutant: Mutant) -> bool:
    start, end = span[0], span[0] + span[1]
    return any(change.offset < end and start < change.offset + len(change.data) for change in mutant.changes)


def _failures(outcome: Outcome, places: Places, slow: bool) -> Iterator[str]:
    if outcome.hung:
        yield "did not end"
    if outcome.signal:
        yield f"signal {outcome.signal}"
    if outcome.opening.startswith("traceback"):
        yield f"opening: {outcome.opening}"
    most = max((tools.load(name).memory for name in outcome.results), default=ANSWER_MEMORY)
    if outcome.memory > (most + SESSION_MEMORY) * OVER:
        yield f"memory: {outcome.memory >> 20} MiB"
    for name, result in outcome.results.items():
        if str(result["status"]).startswith("traceback"):
            yield f"{name}: {result['status']}"
        allowed = tools.load(name).seconds
        if result["seconds"] > allowed * (SLOWER_UNDER_TAINT if slow else 1) * OVER:
            yield f"{name}: {result['seconds']:.0f} s of processor time"
        if slow and result["trusted"] > places.trusted_rows.get(name, 0):
            yield (
                f"{name}: {result['trusted']} rows of the trusted side, of the good image "
                f"{places.trusted_rows.get(name, 0)}"
            )


def run(
    image: Path,
    store: Path,
    count: int,
    seed: int,
    out: Path,
    moment: Path | None = None,
    seconds: float = float("inf"),
    names: Sequence[str] | None = None,
) -> Iterator[Verdict]:
    """Examine `count` mutants of a raw image, or as many as there is time for, with all tools or those that
    are named. Each becomes a line of the file `out`."""
    end = time.monotonic() + seconds
    places, good = _known(image, store, out.parent / f"{image.parent.name}.places", names)
    before = sha256_of(image)
    copy = out.with_suffix(".image")
    shutil.copyfile(image, copy)
    with open(image, "rb") as original, open(out, "a") as log:
        later = open(moment, "rb") if moment else None  # noqa: SIM115  as long as this process
        source = Source(original, places, later)
        for number, mutant in zip(range(count), mutants(source, seed), strict=False):
            if time.monotonic() > end:
                break
            rng = random.Random(f"{seed}:{number}")
            chosen, slow = chosen_tools(rng)
            if names is not None:
                chosen, slow = list(names), False
            _apply(copy, mutant)
            stamp = os.stat(copy).st_mtime_ns
            outcome = examine(copy, store, chosen, slow, rng.choice((1, 1, 1, 2)))
            verdict = judge(mutant, outcome, places, good, slow)
            more = [*failures_of_a_command(copy, store, rng)] if names is None else []
            if os.stat(copy).st_mtime_ns != stamp:
                more.append("the image was written")
            verdict = verdict._replace(failures=(*verdict.failures, *more))
            _restore(copy, mutant, source)
            log.write(json.dumps(_record(seed, number, mutant, outcome, verdict, image)) + "\n")
            log.flush()
            yield verdict
    assert sha256_of(copy) == before == sha256_of(image), "an image was written"
    copy.unlink()


def _known(
    image: Path, store: Path, kept: Path, names: Sequence[str] | None
) -> tuple[Places, dict[str, list[str]]]:
    """What the good image's rows rest on, and its rows: kept in a file, since asking takes a minute."""
    if kept.exists():
        found: tuple[Places, dict[str, list[str]]] = pickle.loads(kept.read_bytes())
        return found
    places = in_child(lambda: find_places(image, store, names or TRACED))
    results = examine(image, store, names or ALL_TOOLS, False, 1).results
    good = {name: result["rows"] for name, result in results.items()}
    write_atomically(kept, pickle.dumps((places, good)))
    return places, good


def _record(
    seed: int, number: int, mutant: Mutant, outcome: Outcome, verdict: Verdict, image: Path
) -> dict[str, Any]:
    longest = max(
        outcome.results.items(), key=lambda item: item[1]["seconds"], default=("", {"seconds": 0.0})
    )
    return {
        "image": image.parent.name, "seed": seed, "number": number, "kind": mutant.kind,
        "changes": [(change.offset, len(change.data)) for change in mutant.changes][:4],
        "opening": outcome.opening, "tools": len(outcome.results), "seconds": outcome.seconds,
        "longest": (longest[0], round(longest[1]["seconds"], 2)), "memory": outcome.memory,
        "limits": {name: result["limit"] for name, result in outcome.results.items() if result["limit"]},
        "errors": {
            name: result["status"] for name, result in outcome.results.items()
            if str(result["status"]).startswith("error")
        },
    } | verdict._asdict()  # fmt: skip


def _apply(path: Path, mutant: Mutant) -> None:
    with open(path, "r+b") as stream:
        for change in mutant.changes:
            stream.seek(change.offset)
            stream.write(change.data)


def _restore(path: Path, mutant: Mutant, source: Source) -> None:
    with open(path, "r+b") as stream:
        for change in mutant.changes:
            stream.seek(change.offset)
            stream.write(source.read(change.offset, len(change.data)))
