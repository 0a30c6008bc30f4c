"""Several processors at one session's questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.run.fast_with_fallback import Hybrid, Mode
from hybridbridge_vol.bridge.run.statistics import Statistics
from hybridbridge_vol.guest import forked_workers

P = TypeVar("P")
T = TypeVar("T")


class _Report(NamedTuple):
    """What a worker did, and its memo if it has learned something."""

    statistics: Statistics
    learned: Memo | None


class SnapshotWorkers:
    """Implements `guest.kernel.Workers`: `processors` is how many may be used."""

    def __init__(self, hybrid: Hybrid, processors: int) -> None:
        self._hybrid = hybrid
        self._processors = processors

    def map(self, answer: Callable[[P], T], parts: Sequence[P], most: int | None = None) -> Iterator[T]:
        """`answer` of each part, in their order, on at most `most` processors. One after the other under
        taint, whose labels and findings a worker would keep to itself."""
        helpers = min(self._processors, most or self._processors, len(parts)) - 1
        if helpers < 1 or len(parts) > forked_workers.MOST_PARTS or self._hybrid.mode is Mode.SLOW:
            yield from map(answer, parts)
            return
        self._hybrid.rest()
        if not forked_workers.can_fork():
            yield from map(answer, parts)
            return
        # an answer may be made of parts, too: each worker gets its share of the processors
        processors, self._processors = self._processors, self._processors // (helpers + 1)
        allowance = self._hybrid.bridge.allowance

        def begin() -> None:
            self._hybrid.statistics.clear()
            allowance.begin_worker(helpers)

        duties = forked_workers.Duties(begin, self._end, self._collect)
        try:
            with allowance.shared(helpers):
                yield from forked_workers.in_order(parts, answer, helpers, duties)
        finally:
            self._processors = processors

    def _end(self) -> _Report:
        memo = self._hybrid.bridge.memo
        learned = memo if memo.changed else None
        self._hybrid.keep_learned()
        return _Report(self._hybrid.statistics, learned)

    def _collect(self, report: _Report) -> None:
        self._hybrid.statistics.add(report.statistics)
        if report.learned is not None:
            self._hybrid.take_in(report.learned)
