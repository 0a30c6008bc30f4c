"""Running many mutants of one image, and judging what the tools made of each."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.hostile.commands import failures_of_a_command
from benchmarks.hostile.mutants import Mutant, Source, mutants
from benchmarks.hostile.places import TRACED, KnownRow, Places, find_places
from benchmarks.hostile.reads import WORD
from benchmarks.hostile.trial import ALL_TOOLS, Outcome, chosen_tools, examine, in_child, seconds_for
from hybridbridge_vol import tools
from hybridbridge_vol.allowance import ANSWER_MEMORY
from hybridbridge_vol.trust.files import write_atomically
from samples.make import sha256_of

SESSION_MEMORY = 400 << 20
"""Bytes that a session takes beside what a tool may take: Python, the emulator's translated code."""
OVER = 1.1
"""A limit is noticed a little late."""


SHOWN, ON_THE_WAY, AT_OPENING, ELSEWHERE, NOT_READ = (
    "shows them", "its calls read them", "read at opening", "other calls read them", "nothing read them",
)  # fmt: skip
CLASSES = (SHOWN, ON_THE_WAY, AT_OPENING, ELSEWHERE, NOT_READ)
"""Why a row changed, by what became of the changed bytes with the good image; the first that holds. Other
calls: of the same tool (totals, the order of rows, a list that led there) or of another one (what a session
keeps). The last must not be."""


class Verdict(NamedTuple):
    """`failures`: what must not be. Of the tools of one mutant, how many were complete, partial, ended by a
    limit or by a one-line error; of the complete ones how many rows were compared, and how many changed, by
    `CLASSES`."""

    failures: tuple[str, ...]
    statuses: dict[str, int]
    rows: int
    changed: dict[str, int]


def judge(
    mutant: Mutant, outcome: Outcome, places: Places, good: dict[str, list[str]], slow: bool
) -> Verdict:
    """What is to be said of one mutant."""
    failures = list(_failures(outcome, places, slow))
    statuses: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    rows = 0
    for name, result in outcome.results.items():
        status = str(result["status"]).partition(":")[0]
        statuses["limit" if result["limit"] else status] += 1
        if name not in places.rows or status != "complete" or result["limit"]:
            continue
        now, before = set(result["rows"]), set(good.get(name, ()))
        # others move from one session to the next
        compared = [row for row in places.rows[name] if row.text in before]
        rows += len(compared)
        for row in compared:
            if row.text not in now:
                why = class_of(row, name, mutant, places)
                if why == NOT_READ and not changed[why]:
                    failures.append(f"{name}: nothing explains that this row changed: {row.text}")
                changed[why] += 1
    return Verdict(tuple(failures), dict(statuses), rows, dict(changed))


def class_of(row: KnownRow, tool: str, mutant: Mutant, places: Places) -> str:
    """Why a row of a tool changed: one of `CLASSES`."""
    if any(_meets(span, mutant) for span in row.under):
        return SHOWN
    if any(_was_read(places.read_for[source], mutant) for source in row.sources if source in places.read_for):
        return ON_THE_WAY
    if _was_read(places.opening, mutant):
        return AT_OPENING
    by_tools = (places.read_by[tool], *places.read_by.values())
    return ELSEWHERE if any(_was_read(words, mutant) for words in by_tools) else NOT_READ


def touched_by(mutant: Mutant, places: Places) -> set[str]:
    """The tools that read a changed byte on the good image; if opening it did, those whose rows are
    compared, too."""
    opening = TRACED if _was_read(places.opening, mutant) else ()
    return {name for name, words in places.read_by.items() if _was_read(words, mutant)} | set(opening)


def _meets(span: tuple[int, int], mutant: Mutant) -> bool:
    start, end = span[0], span[0] + span[1]
    return any(change.offset < end and start < change.offset + len(change.data) for change in mutant.changes)


def _was_read(words: array[int], mutant: Mutant) -> bool:
    """Whether a changed byte is in one of these words, ascending."""
    for change in mutant.changes:
        following = bisect_left(words, change.offset // WORD)
        if following < len(words) and words[following] * WORD < change.offset + len(change.data):
            return True
    return False


def _failures(outcome: Outcome, places: Places, slow: bool) -> Iterator[str]:
    if outcome.hung:
        yield f"did not end: {outcome.hung}"
    if outcome.signal:
        yield f"signal {outcome.signal}"
    if outcome.opening.startswith("traceback"):
        yield f"opening: {outcome.opening}"
    most = max((tools.load(name).memory for name in outcome.results), default=ANSWER_MEMORY)
    if outcome.memory > (most + SESSION_MEMORY) * OVER:
        yield f"memory: {outcome.memory >> 20} MiB, in {outcome.largest}"
    for name, result in outcome.results.items():
        if str(result["status"]).startswith("traceback"):
            yield f"{name}: {result['status']}"
        if result["seconds"] > seconds_for(slow) * OVER:
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
            touched = set(ALL_TOOLS) & touched_by(mutant, places)
            chosen, slow = chosen_tools(rng, touched) if names is None else (list(names), False)
            _apply(copy, mutant)
            stamp = os.stat(copy).st_mtime_ns
            outcome = examine(copy, store, chosen, slow, rng.choice((1, 1, 1, 2)))
            verdict = judge(mutant, outcome, places, good, slow)
            more = [*failures_of_a_command(copy, store, rng)] if names is None else []
            if os.stat(copy).st_mtime_ns != stamp:
                more.append("the image was written")
            verdict = verdict._replace(failures=(*verdict.failures, *more))
            _restore(copy, mutant, source)
            record = _record(seed, number, mutant, outcome, verdict, image)
            record |= {"touched": len(touched), "not run": len(ALL_TOOLS) - len(outcome.results)}
            log.write(json.dumps(record) + "\n")
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
    others = () if names else [name for name in ALL_TOOLS if name not in TRACED]
    places = in_child(lambda: find_places(image, store, names or TRACED, others))
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
