"""Where the bytes of answers came from: the taint labels of what calls returned, as ranges of the image
file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.taint.labels import SEEDED, TRUSTED, merge_ranges
from hybridbridge_vol.guest.file_content import PhysicalRange
from hybridbridge_vol.procfs.sources import Source


class Provenance(NamedTuple):
    """What bytes were made from. `ranges`: `(file offset, length)` of the image, ascending and disjoint;
    `unplaced`: `(physical address, length)` where the image is not a plain file; `trusted`: some of it is the
    trusted kernel's own state; `unknown`: some of it is the snapshot's, from an address that was not
    recorded.

    All empty: text and numbers that stand in the kernel's code."""

    ranges: tuple[tuple[int, int], ...] = ()
    unplaced: tuple[tuple[int, int], ...] = ()
    trusted: bool = False
    unknown: bool = False

    def __str__(self) -> str:
        words = [f"{offset:#x}+{size}" for offset, size in self.ranges]
        words += [f"paddr:{paddr:#x}+{size}" for paddr, size in self.unplaced]
        words += ["trusted"] * self.trusted + ["image"] * self.unknown
        return " ".join(words) or "constant"


class AnswerLabels:
    """The labels of a session's answers: of each source those of its last answer.

    Nothing is kept before `start` was called: labels exist only in mode `slow`, and take memory.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._started = False
        self._labels: dict[str, array[int]] = {}
        self._placed: dict[str, dict[int, PhysicalRange]] = {}
        """Of files whose pages were read where they lie: their ranges by their offsets."""
        self._known: dict[int, Provenance] = {}

    def start(self) -> None:
        """Keep the labels of answers from here on. The session must be in mode `slow`."""
        self._started = True

    @property
    def is_started(self) -> bool:
        """Whether somebody will ask."""
        return self._started

    def keep(self, source: str, offset: int, size: int, more: bool) -> None:
        """Keep the labels of an answer: of `size` bytes at `offset` of user memory. With `more` they follow
        those that are there."""
        if not self._started:
            return
        if not more:
            self.forget(source)
        labels = self._caller.labels(offset, size)
        self._labels.setdefault(source, array("Q")).frombytes(labels.tobytes())

    def place(self, source: str, ranges: Iterable[PhysicalRange]) -> None:
        """Keep where in memory these ranges of a file lie: nobody copied them."""
        if self._started:
            self._placed.setdefault(source, {}).update((item.offset, item) for item in ranges)

    def forget(self, source: str) -> None:
        """A source is about to be read anew; where its pages lie stays as it is."""
        self._labels.pop(source, None)

    def of(self, sources: Iterable[Source]) -> Provenance:
        """What these bytes were made from, together."""
        labels: set[int] = set()
        placed: list[Provenance] = []
        for source in sources:
            labels.update(self._labels.get(source.path, array("Q"))[source.start : source.end])
            placed += self._of_placed(source)
        return self._together([*placed, *(self._of_label(label) for label in labels)])

    def _of_placed(self, source: Source) -> Iterator[Provenance]:
        """Where the bytes of a file lie, as far as they were read where they lie."""
        for item in self._placed.get(source.path, {}).values():
            start = max(source.start, item.offset)
            end = item.offset + item.size
            end = end if source.end is None else min(source.end, end)
            if start < end:
                paddr, size = item.paddr + start - item.offset, end - start
                offset = self._caller.bridge.image.offset_of(paddr)
                yield Provenance((), ((paddr, size),)) if offset is None else Provenance(((offset, size),))

    def pieces(
        self, path: str, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, int, Provenance]]:
        """`(start, end, provenance)` of runs of bytes of one source that came from the same; `start` counts
        from the byte `first`."""
        labels = self._labels.get(path, array("Q"))[first:last]
        start = 0
        for position in range(1, len(labels) + 1):
            if position == len(labels) or self._of_label(labels[position]) != self._of_label(labels[start]):
                yield start, position, self._of_label(labels[start])
                start = position

    def _of_label(self, label: int) -> Provenance:
        found = self._known.get(label)
        if found is None:
            placed, unplaced = [], []
            for paddr, size in self._caller.hybrid.slow.engine.origins(label):
                offset = self._caller.bridge.image.offset_of(paddr)
                if offset is None:
                    unplaced.append((paddr, size))
                else:
                    placed.append((offset, size))
            found = Provenance(
                tuple(merge_ranges(placed)), tuple(unplaced), bool(label & TRUSTED), bool(label & SEEDED)
            )
            self._known[label] = found
        return found

    @staticmethod
    def _together(parts: Iterable[Provenance]) -> Provenance:
        every = list(parts)
        return Provenance(
            tuple(merge_ranges(item for part in every for item in part.ranges)),
            tuple(merge_ranges(item for part in every for item in part.unplaced)),
            any(part.trusted for part in every),
            any(part.unknown for part in every),
        )
