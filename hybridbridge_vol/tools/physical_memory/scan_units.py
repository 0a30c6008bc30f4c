"""Physical memory cut into what is searched at once: pages that lie together for somebody, each page once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.guest.file_content import PhysicalRange
from hybridbridge_vol.tools.physical_memory.process_frames import FrameRun
from hybridbridge_vol.units import PAGE_SIZE

if TYPE_CHECKING:
    from hybridbridge_vol.memory_image.physical import PhysicalImage

LARGEST_UNIT = 32 << 20
"""Bytes: a match over the end of two is not found, but in the page that they share."""
_WHOLE = 16 << 20
"""Bytes of a run that is searched as a whole if any of its pages is new: a rule that needs two strings may
have one of them in a page that was searched for another process."""


class Unit(NamedTuple):
    """What is searched at once: `ranges` follow one another from the address `start` on, which is `subject`'s
    (of a process, in a file, physical). `fresh` has a 1 for each page that was not searched before."""

    subject: int
    start: int
    ranges: list[tuple[int, int]]
    fresh: bytes

    @property
    def size(self) -> int:
        return sum(size for _paddr, size in self.ranges)

    def is_fresh(self, address: int, size: int) -> bool:
        """Whether any page of so many bytes at an address was not searched before."""
        first = (address - self.start) // PAGE_SIZE
        return 1 in self.fresh[first : (address + max(size, 1) - 1 - self.start) // PAGE_SIZE + 1]

    def paddr(self, address: int) -> int:
        """The physical address of the byte at an address."""
        left = address - self.start
        for paddr, size in self.ranges:
            if left < size:
                return paddr + left
            left -= size
        raise ValueError(f"{address:#x} is not in it")

    def content(self, image: PhysicalImage) -> bytes:
        """The bytes; pages that the image lacks are zeros."""
        return b"".join(image.read_padded(paddr, size) for paddr, size in self.ranges)


class Seen:
    """Which physical pages were given to somebody."""

    def __init__(self, end_paddr: int) -> None:
        self._frames = bytearray(end_paddr // PAGE_SIZE + 1)

    def __contains__(self, frame: int) -> bool:
        return frame >= len(self._frames) or bool(self._frames[frame])

    def add(self, frames: Iterable[int]) -> None:
        for frame in frames:
            if frame < len(self._frames):
                self._frames[frame] = 1

    def rest(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The parts of physical ranges `(paddr, size)` that nobody was given."""
        for paddr, size in ranges:
            at, last = paddr // PAGE_SIZE, (paddr + size) // PAGE_SIZE
            while at < last:
                start = self._frames.find(0, at, last)
                if start < 0:
                    break
                end = self._frames.find(1, start, last)
                end = last if end < 0 else end
                yield start * PAGE_SIZE, (end - start) * PAGE_SIZE
                at = end


def of_run(subject: int, run: FrameRun, seen: Seen) -> Iterator[Unit]:
    """The units of a mapping's pages."""
    start = None
    frames = run.frames
    for index in range(len(frames) + 1):
        there = index < len(frames) and frames[index] != 0
        if there and start is None:
            start = index
        elif not there and start is not None:
            yield from _of_pages(subject, run.vaddr + start * PAGE_SIZE, frames[start:index], seen)
            start = None


def _of_pages(subject: int, vaddr: int, frames: Sequence[int], seen: Seen) -> Iterator[Unit]:
    """The units of neighbouring pages that are all there."""
    fresh = bytearray(len(frames))
    for index, frame in enumerate(frames):
        fresh[index] = frame not in seen
        seen.add((frame,))
    new = [index for index, is_new in enumerate(fresh) if is_new]
    if not new:
        return
    if len(frames) * PAGE_SIZE <= _WHOLE:
        yield _unit(subject, vaddr, frames, fresh, 0, len(frames))
        return
    first = last = new[0]
    most = LARGEST_UNIT // PAGE_SIZE
    for following in [*new[1:], len(frames) + 1]:
        if following == last + 1 and following - first < most:
            last = following
            continue
        yield _unit(subject, vaddr, frames, fresh, first, last + 1)
        first = last = following


def _unit(subject: int, vaddr: int, frames: Sequence[int], fresh: bytearray, first: int, last: int) -> Unit:
    """Pages `[first, last)` and a page on each side."""
    before, behind = max(first - 1, 0), min(last + 1, len(frames))
    ranges: list[tuple[int, int]] = []
    for frame in frames[before:behind]:
        if ranges and ranges[-1][0] + ranges[-1][1] == frame * PAGE_SIZE:
            ranges[-1] = ranges[-1][0], ranges[-1][1] + PAGE_SIZE
        else:
            ranges.append((frame * PAGE_SIZE, PAGE_SIZE))
    return Unit(subject, vaddr + before * PAGE_SIZE, ranges, bytes(fresh[before:behind]))


def of_file(subject: int, ranges: Sequence[PhysicalRange], seen: Seen) -> Iterator[Unit]:
    """The units of a file's content: what lies together in the file, unless all of it was searched."""
    together: list[PhysicalRange] = []
    for item in [*ranges, None]:
        size = sum(part.size for part in together)
        follows = item is not None and together and together[-1].offset + together[-1].size == item.offset
        if together and not (follows and size < LARGEST_UNIT):
            frames = [
                at // PAGE_SIZE
                for part in together
                for at in range(part.paddr, part.paddr + part.size, PAGE_SIZE)
            ]
            fresh = bytes(frame not in seen for frame in frames)
            if 1 in fresh:
                seen.add(frames)
                start = together[0].offset
                parts = [(part.paddr, part.size) for part in together]
                yield Unit(subject, start, parts, fresh)
            together = []
        if item is not None:
            together.append(item)


def of_rest(subject: int, ranges: Iterable[tuple[int, int]], seen: Seen) -> Iterator[Unit]:
    """The units of what nobody was given."""
    for paddr, size in seen.rest(ranges):
        for start in range(paddr, paddr + size, LARGEST_UNIT):
            part = min(LARGEST_UNIT, paddr + size - start)
            yield Unit(subject, start, [(start, part)], bytes([1]) * (part // PAGE_SIZE + 1))
