"""The memo: which code of the twin and of modules is proven under taint, and which static references are
*trusted*.

A memo belongs to one kernel build and one policy; no other is used. It is a set: two memos of the same kernel
are merged by union. `memo_file` stores it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hybridbridge_vol.errors import MemoError
from hybridbridge_vol.units import PAGE_SIZE

_BREAKPOINT = b"\xcc"
_MODULE_ID = 16


@dataclass(frozen=True)
class MemoKey:
    """What a memo is good for."""

    build_id: str
    policy: str
    release: str = field(default="", compare=False)
    """For people only."""


class Proven:
    """What is proven of one text, as offsets from its start. It only grows, by `add`.

    Proven code is disjoint, ascending ranges. Trusted fields are the 32-bit fields of static references that
    reach the trusted kernel's object, not the snapshot's. Code that makes text must ask for both each
    time; it must not keep the results.
    """

    def __init__(self) -> None:
        self._starts = array("I")
        self._ends = array("I")
        self._trusted = array("I")
        self._changed = False

    def __len__(self) -> int:
        """Bytes of proven code."""
        return sum(self._ends) - sum(self._starts)

    @property
    def changed(self) -> bool:
        """Whether anything was added that is not stored yet."""
        return self._changed

    @property
    def trusted(self) -> frozenset[int]:
        """All trusted fields."""
        return frozenset(self._trusted)

    def add(self, ranges: Iterable[tuple[int, int]], trusted: Iterable[int] = ()) -> None:
        """Take in `(start, end)` ranges of proven code and trusted fields."""
        new_fields = set(trusted).difference(self._trusted)
        if new_fields:
            self._trusted = array("I", sorted(new_fields.union(self._trusted)))
        incoming = [(start, end) for start, end in ranges if start < end and not self.covers(start, end)]
        if incoming:
            starts, ends = array("I"), array("I")
            for start, end in sorted([*self.ranges(), *incoming]):
                if ends and start <= ends[-1]:
                    ends[-1] = max(ends[-1], end)
                else:
                    starts.append(start)
                    ends.append(end)
            self._starts, self._ends = starts, ends
        self._changed = self._changed or bool(incoming or new_fields)

    def mark_stored(self) -> None:
        """All of it is in the store, or came from there."""
        self._changed = False

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Proven `(start, end)` ranges, ascending."""
        return zip(self._starts, self._ends, strict=True)

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `[start, end)` is proven."""
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and end <= self._ends[index]

    def trusted_in(self, start: int, stop: int) -> array[int]:
        """The trusted fields that begin in `[start, stop)`, ascending."""
        return self._trusted[bisect_left(self._trusted, start) : bisect_left(self._trusted, stop)]

    def masked(self, offset: int, page: bytes | bytearray) -> bytearray:
        """The text's page at `offset` with `int3` wherever nothing is proven."""
        out = bytearray(_BREAKPOINT * len(page))
        index = bisect_left(self._ends, offset + 1)
        while index < len(self._starts) and self._starts[index] < offset + PAGE_SIZE:
            first, last = max(self._starts[index] - offset, 0), min(self._ends[index] - offset, PAGE_SIZE)
            out[first:last] = page[first:last]
            index += 1
        return out

    def columns(self) -> tuple[array[int], array[int], array[int]]:
        """Starts and ends of the proven ranges, and the trusted fields: as the file has them."""
        return self._starts, self._ends, self._trusted


class Memo:
    """What is proven of a kernel: of its own `text`, and of the text of its modules by `name:build id`."""

    def __init__(self, key: MemoKey) -> None:
        self.key = key
        self.text = Proven()
        self.modules: dict[str, Proven] = {}

    def of_module(self, name: str, build_id: str) -> Proven:
        """What is proven of one module's text."""
        return self.modules.setdefault(f"{name}:{build_id[:_MODULE_ID]}", Proven())

    def parts(self) -> list[Proven]:
        """The kernel's text and those of all modules."""
        return [self.text, *self.modules.values()]

    def __len__(self) -> int:
        """Bytes of proven code."""
        return sum(map(len, self.parts()))

    @property
    def changed(self) -> bool:
        """Whether anything was added that is not stored yet."""
        return any(part.changed for part in self.parts())

    def mark_stored(self) -> None:
        """All of it is in the store, or came from there."""
        for part in self.parts():
            part.mark_stored()

    def merge(self, other: Memo) -> None:
        """Union with another memo of the same kernel and policy; MemoError if it is not."""
        if other.key != self.key:
            raise MemoError(
                f"a memo of kernel {other.key.release or other.key.build_id} does not fit this one"
            )
        self.text.add(other.text.ranges(), other.text.trusted)
        for name, part in other.modules.items():
            self.modules.setdefault(name, Proven()).add(part.ranges(), part.trusted)
