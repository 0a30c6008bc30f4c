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

    def map(
        self, answer: Callable[[P], T], parts: Sequence[P], most: int | None = None, least: int = 0
    ) -> Iterator[T]:
        """`answer` of each part, in their order, on at most `most` processors; fewer than `least` parts, and
        all under taint, whose labels and findings a worker would keep to itself, one after the other.

        The first part is answered before workers are forked: they have the code that the emulator has
        translated for it, and each would translate it again.
        """
        others = parts[1:]
        helpers = min(self._processors, most or self._processors, len(others)) - 1
        is_shared = helpers > 0 and least <= len(parts) <= forked_workers.MOST_PARTS
        if not is_shared or self._hybrid.mode is Mode.SLOW:
            yield from map(answer, parts)
            return
        yield answer(parts[0])
        self._hybrid.rest()
        if not forked_workers.can_fork():
            yield from map(answer, others)
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
                yield from forked_workers.in_order(others, answer, helpers, duties)
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
