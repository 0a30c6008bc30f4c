"""Where a snapshot has a module: its linked file filled in with the snapshot's addresses.

The loader's rules differ between kernels, so where a place lies is the majority vote of the references to it
in the snapshot's copy of the code. A forged reference moves nothing that is hidden by it: all others then
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.bridge.modules.locate import segment_starts
from hybridbridge_vol.check.doubts import blank_pages
from hybridbridge_vol.check.modules.linked_module import (
    IS_FAR,
    IS_RELATIVE,
    RODATA,
    TEXT,
    Bytes,
    LinkedModule,
    LinkedSegment,
    Numbers,
    Vaddrs,
)
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.units import PAGE_SIZE, U64

MemoryAt = Callable[[int, int], "Memory"]


class Memory:
    """Bytes of the snapshot from `vaddr` on; `absent` are offsets of pages that the image lacks, zeros
    until they are compared; `blank` those that it has as zeros, and that should not be."""

    def __init__(self, vaddr: int, data: bytearray, absent: list[int]) -> None:
        self.vaddr = vaddr
        self.data = data
        self.absent = absent
        self.blank: list[int] = []
        self.bytes: Bytes = np.frombuffer(data, np.uint8)


class PlacedModule:
    """A module at `text_vaddr`. `vaddrs` are the addresses of its places; of what lies in other modules only
    once `resolve` was called. `read` reads the snapshot's memory."""

    def __init__(self, linked: LinkedModule, text_vaddr: int, struct_vaddr: int, read: MemoryAt) -> None:
        self.linked = linked
        self.name = linked.name
        self.text_vaddr = text_vaddr
        self.text = read(text_vaddr, len(linked.segments[TEXT].content))
        self.vaddrs: Vaddrs = np.zeros(linked.places, np.uint64)
        self.unresolved: list[str] = []
        self._known = np.zeros(linked.places, bool)
        self._put(TEXT, text_vaddr)
        self._known[linked.absolute] = True
        if linked.own_struct is not None:
            place, offset = linked.own_struct
            self._put(place, struct_vaddr - offset)
        for place, vaddr in _voted(linked.segments[TEXT], self.text):
            if not self._known[place]:
                self._put(place, vaddr)

    def _put(self, place: int, vaddr: int) -> None:
        self.vaddrs[place] = vaddr & U64
        self._known[place] = True

    def known(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some places were found."""
        found: npt.NDArray[np.bool_] = self._known[places]
        return found

    def vaddr_of(self, place: int, offset: int) -> int | None:
        """The address of something in a place; None if the place was not found."""
        return int(self.vaddrs[place]) + offset & U64 if self._known[place] else None

    def holds(self, vaddr: int) -> bool:
        """Whether an address is in its code."""
        return 0 <= vaddr - self.text_vaddr < page_up(len(self.text.data))

    def place_rodata(self, candidates: list[int], read: MemoryAt) -> None:
        """Find the constants, to which its code does not refer, at one of some addresses: where they are as
        in the file."""
        constants = self.linked.segments[RODATA]
        if self._known[RODATA] or not len(constants.sections):
            return
        counted = _inside(constants.sections, len(constants.content))
        best = _ALIKE
        for vaddr in candidates:
            found = read(vaddr, len(constants.content))
            if found.absent:
                continue
            equal = np.frombuffer(self.expected(RODATA, found), np.uint8) == found.bytes
            if found.blank:
                continue
            share = float(np.mean(equal[counted])) if counted.any() else 1.0
            if share > best:
                best = share
                self._put(RODATA, vaddr)

    def place_data(self, pages: list[int]) -> None:
        """Find the data to which the code does not refer. `pages` are those that its `struct module`
        names."""
        sizes = [len(segment) for segment in self.linked.segments]
        starts = segment_starts(self.text_vaddr, self.vaddr_of(RODATA, 0), sizes, pages)
        if all(self.vaddr_of(segment, 0) in (None, vaddr) for segment, vaddr in starts.items()):
            for segment, vaddr in starts.items():
                self._put(segment, vaddr)

    def resolve(self, vaddrs: Mapping[str, list[int]], several: frozenset[str]) -> None:
        """Fill in the addresses of the symbols of the kernel and of other modules. Of the names with
        `several` addresses it is the one that the snapshot's copy refers to."""
        first = self.linked.absolute + 1
        nothing = (0,)
        self.vaddrs[first:] = [vaddrs.get(name, nothing)[0] for name in self.linked.imports]
        self._known[first:] = [name in vaddrs for name in self.linked.imports]
        if not self._known[first:].all():
            self.unresolved = [name for name in self.linked.imports if name not in vaddrs]
        for name in several.intersection(self.linked.imports):
            place = first + self.linked.imports.index(name)
            code = self.linked.segments[TEXT]
            used = _starts(code, self.text, np.flatnonzero(code.targets == place)[:1].astype(np.uint32))
            self.vaddrs[place] = next(
                (vaddr for vaddr in vaddrs[name] if [vaddr] == used.tolist()), vaddrs[name][0]
            )

    def exports(self) -> Iterator[tuple[str, int]]:
        """What others can refer to, with its address."""
        vaddrs, known = self.vaddrs[: self.linked.absolute + 1].tolist(), self._known.tolist()
        for name, (place, offset) in self.linked.exports.items():
            if known[place]:
                yield name, vaddrs[place] + offset & U64

    def expected(self, segment: int, found: Memory) -> bytearray:
        """What must be in a segment that the snapshot has as `found`. What is not compared is as found: bytes
        between sections, fields that lead to places that were not found. Absent and blank pages become in
        `found` what they must be: code in other pages may be a copy of theirs."""
        linked = self.linked.segments[segment]
        data = bytearray(linked.content.data)
        for kind, some in linked.kinds():
            offsets, targets = linked.offsets[some], linked.targets[some]
            if not len(offsets):
                continue
            values = self.vaddrs[targets] + linked.addends[some].view(np.uint64)
            if IS_RELATIVE[kind]:
                values -= offsets + np.uint64(found.vaddr)
            fields = _fields(data, IS_FAR[kind])
            values = values.astype(fields.dtype)
            known = self._known[targets]
            if not known.all():
                values = np.where(known, values, _fields(found.data, IS_FAR[kind])[offsets])
            fields[offsets] = values
        for start, end in _gaps(linked.sections, len(data)):
            data[start:end] = found.data[start:end]
        first = -(found.vaddr % PAGE_SIZE)
        blank = (max(page, 0) for page in blank_pages(data, found.data, first))
        found.blank = found.blank or [page for page in blank if page not in found.absent]
        for start in (*found.absent, *found.blank):
            end = start + PAGE_SIZE - (found.vaddr + start) % PAGE_SIZE
            found.data[start:end] = data[start:end]
        return data

    def pointers(self, segment: int) -> tuple[Vaddrs, Vaddrs]:
        """Addresses of the pointers in a segment of data, and their linked values; of those that are
        known."""
        linked = self.linked.segments[segment]
        known = self._known[linked.targets]
        if not self._known[segment] or not known.any():
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        values = self.vaddrs[linked.targets] + linked.addends.view(np.uint64)
        return (linked.offsets + self.vaddrs[segment])[known], values[known]


_LONGEST_FIELD = 8
_ALIKE = 0.9
"""Share of a module's constants that must be as in the file."""


def _inside(sections: Numbers, size: int) -> npt.NDArray[np.bool_]:
    """By offset: whether it is in one of the sections."""
    inside = np.zeros(size, bool)
    edges = sections.tolist()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        inside[start:end] = True
    return inside


def _gaps(sections: Numbers, size: int) -> Iterator[tuple[int, int]]:
    """Starts and ends of what lies between and around the sections."""
    edges = [0, *sections.tolist(), size]
    return ((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end)


def _fields(data: bytearray, far: bool) -> npt.NDArray[np.unsignedinteger]:
    """The numbers of 32 or 64 bits at each offset."""
    width = 8 if far else 4
    count = max(len(data) - width + 1, 0)
    return np.ndarray((count,), "<u8" if far else "<u4", data, 0, (1,))


def _voted(code: LinkedSegment, found: Memory) -> Iterator[tuple[int, int]]:
    """`(place, address)` where most of some references in the code agree. What is in pages of zeros says
    nothing."""
    voters = code.voters
    empty = [
        page for page in range(0, len(found.data), PAGE_SIZE) if not any(found.data[page : page + PAGE_SIZE])
    ]
    if empty:
        offsets = code.offsets[voters].astype(np.int64)
        numbers = np.array(empty, np.int64) // PAGE_SIZE
        lasts = offsets + _LONGEST_FIELD - 1
        voters = voters[~np.isin(offsets // PAGE_SIZE, numbers) & ~np.isin(lasts // PAGE_SIZE, numbers)]
    places = code.targets[voters]
    if not len(places):
        return
    starts = _starts(code, found, voters)
    firsts = np.flatnonzero(np.append(True, places[1:] != places[:-1]))
    ends = np.append(firsts[1:], len(places)).tolist()
    lowest, highest = (what.reduceat(starts, firsts).tolist() for what in (np.minimum, np.maximum))
    for place, first, end, low, high in zip(
        places[firsts].tolist(), firsts.tolist(), ends, lowest, highest, strict=True
    ):
        votes = [low] if low == high else sorted(starts[first:end].tolist())
        middle = votes[len(votes) // 2]
        if 2 * votes.count(middle) > len(votes):
            yield place, middle


def _starts(code: LinkedSegment, found: Memory, numbers: Numbers) -> Vaddrs:
    """Where the places begin that some references lead to, by what the snapshot has in their fields."""
    kinds = np.searchsorted(np.cumsum(code.counts), numbers, "right")
    offsets = code.offsets[numbers]
    values = np.zeros(len(offsets), np.uint64)
    for kind in range(len(code.counts)):
        some = kinds == kind
        if some.any():
            fields = _fields(found.data, IS_FAR[kind])[offsets[some]]
            signed = fields.astype(np.int64) if IS_FAR[kind] else fields.astype(np.int32).astype(np.int64)
            values[some] = signed.view(np.uint64)
            if IS_RELATIVE[kind]:
                values[some] += offsets[some] + np.uint64(found.vaddr)
    return values - code.addends[numbers].view(np.uint64)
