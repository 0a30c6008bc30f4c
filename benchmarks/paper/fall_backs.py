"""Fall-backs from FAST-BRIDGE to SLOW-BRIDGE, from snapshot to snapshot of one kernel, from an empty memo."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks import measure
from benchmarks.works import Work
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.memos import clear
from samples.make import Sample


class Answered(NamedTuple):
    """A work on one image: traps while the session was opened, and afterwards; seconds of processor time,
    opening and closing included; where FAST-BRIDGE trapped."""

    opening: int
    traps: int
    seconds: float
    where: tuple[str, ...]


class Filling(NamedTuple):
    """How a memo filled: for each place in the order of the snapshots, the medians of traps (of opening a
    session, and of the work) and of seconds; the most traps of any order on the last snapshot, and where."""

    opening: tuple[float, ...]
    traps: tuple[float, ...]
    seconds: tuple[float, ...]
    most_on_last: int
    where_on_last: tuple[str, ...]


def answer(sample: Sample, store: Store, work: Work) -> Answered:
    """A session in which the work is done once."""
    started = measure.processor_seconds()
    with open_session(sample.dump, store.root, processors=1) as session:
        session.files.stat("/proc")  # mounts it
        opening = session.statistics.total.traps
        work.prepare(session)()
        traps = session.statistics.total.traps - opening
        where = tuple(session.statistics.trapped_in)
    return Answered(opening, traps, measure.processor_seconds() - started, where)


def fill(samples: Sequence[Sample], store: Store, works: Iterable[Work]) -> dict[str, Filling]:
    """By a work's name, how its own memo fills. Each order begins with another snapshot, so that each of them
    is the first once, and the last once."""
    works = list(works)
    answer(samples[0], store, works[0])  # what SLOW-BRIDGE needs is imported now
    orders = [[*samples[first:], *samples[:first]] for first in range(len(samples))]
    return {work.name: summary([_in_turn(order, store, work) for order in orders]) for work in works}


def _in_turn(samples: Iterable[Sample], store: Store, work: Work) -> list[Answered]:
    clear(store, None)
    return [answer(sample, store, work) for sample in samples]


def summary(orders: Sequence[Sequence[Answered]]) -> Filling:
    """Of several orders of the same number of snapshots."""
    places = list(zip(*orders, strict=True))
    last = places[-1]
    return Filling(
        tuple(statistics.median(one.opening for one in place) for place in places),
        tuple(statistics.median(one.traps for one in place) for place in places),
        tuple(statistics.median(one.seconds for one in place) for place in places),
        max(one.opening + one.traps for one in last),
        tuple(dict.fromkeys(where for one in last for where in one.where)),
    )


def still_trapping(fillings: Mapping[str, Filling]) -> dict[str, tuple[str, ...]]:
    """The works that trapped on the last snapshot of any order, and where."""
    return {name: filling.where_on_last for name, filling in fillings.items() if filling.most_on_last}
