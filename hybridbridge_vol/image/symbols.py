"""A kernel's symbol table, packed so that opening it costs nothing."""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

_MAGIC = b"HBsyms1\0"
_HEADER = struct.Struct("<8sII")


class Symbols:
    """Symbols in address order, with an index by name.

    Addresses are link-time virtual addresses; per-CPU symbols of kernels whose per-CPU area is linked at 0 are
    plain offsets. A name may stand for several addresses (static functions of different files).
    """

    def __init__(
        self, addresses: Sequence[int], kinds: bytes, name_ends: Sequence[int], by_name: Sequence[int], names: bytes
    ) -> None:
        self._addresses = addresses
        self._kinds = kinds
        self._name_ends = name_ends
        self._by_name = by_name
        self._names = names

    @classmethod
    def build(cls, symbols: Iterable[tuple[int, str, str]]) -> Symbols:
        """From `(address, kind, name)` in any order; `kind` is one letter as nm(1) has it."""
        columns = [(address, (kind + name).encode("latin-1")) for address, kind, name in symbols]
        return cls.from_columns([address for address, _ in columns], [raw for _, raw in columns])

    @classmethod
    def from_columns(cls, addresses: Sequence[int], raw_names: Sequence[bytes]) -> Symbols:
        """From columns in any order but the same; the first letter of each name is its kind."""
        order = sorted(range(len(addresses)), key=addresses.__getitem__)
        raw = [raw_names[index] for index in order]
        names = [name[1:] for name in raw]
        return cls(
            array("Q", [addresses[index] for index in order]),
            bytes([name[0] for name in raw]),
            array("I", accumulate(map(len, names), initial=0)),
            array("I", sorted(range(len(names)), key=names.__getitem__)),
            b"".join(names),
        )

    def pack(self) -> bytes:
        """Everything as one string of bytes for `unpack`."""
        header = _HEADER.pack(_MAGIC, len(self), len(self._names))
        parts = (array("Q", self._addresses), array("I", self._name_ends), array("I", self._by_name))
        return b"".join([header, *(part.tobytes() for part in parts), bytes(self._kinds), self._names])

    @classmethod
    def unpack(cls, packed: bytes) -> Symbols:
        """Back from `pack`, without touching most of it. ValueError if it is something else."""
        if len(packed) < _HEADER.size:
            raise ValueError("not a packed symbol table")
        magic, count, names_size = _HEADER.unpack_from(packed)
        sizes = (8 * count, 4 * (count + 1), 4 * count, count, names_size)
        if magic != _MAGIC or len(packed) != _HEADER.size + sum(sizes):
            raise ValueError("not a packed symbol table")
        view = memoryview(packed)
        parts, offset = [], _HEADER.size
        for size in sizes:
            parts.append(view[offset : offset + size])
            offset += size
        return cls(parts[0].cast("Q"), bytes(parts[3]), parts[1].cast("I"), parts[2].cast("I"), bytes(parts[4]))

    def __len__(self) -> int:
        return len(self._kinds)

    def _name(self, index: int) -> bytes:
        return self._names[self._name_ends[index] : self._name_ends[index + 1]]

    def addresses(self, name: str) -> list[int]:
        """Every address that `name` stands for, ascending."""
        wanted = name.encode("latin-1")
        first = bisect_left(self._by_name, wanted, key=self._name)
        found = []
        for place in range(first, len(self._by_name)):
            if self._name(self._by_name[place]) != wanted:
                break
            found.append(self._addresses[self._by_name[place]])
        return sorted(found)

    def get(self, name: str, default: int | None = None) -> int | None:
        """The (lowest) address of `name`."""
        found = self.addresses(name)
        return found[0] if found else default

    def address(self, name: str) -> int:
        """The (lowest) address of `name`; KeyError if the kernel has no such symbol."""
        found = self.addresses(name)
        if not found:
            raise KeyError(name)
        return found[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.addresses(name))

    def lookup(self, vaddr: int) -> tuple[str, int] | None:
        """`(name, offset)` of the symbol at or before `vaddr`; None before the first."""
        index = bisect_right(self._addresses, vaddr) - 1
        if index < 0:
            return None
        return self._name(index).decode("latin-1"), vaddr - self._addresses[index]

    def next_address(self, vaddr: int) -> int | None:
        """The next higher address at which a symbol stands."""
        index = bisect_right(self._addresses, vaddr)
        return self._addresses[index] if index < len(self) else None

    def size(self, name: str) -> int:
        """Bytes from `name` to the next higher symbol."""
        start = self.address(name)
        return (self.next_address(start) or start) - start

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        for index in range(len(self)):
            yield self._addresses[index], chr(self._kinds[index]), self._name(index).decode("latin-1")

    def matching(self, pattern: str) -> Iterator[tuple[int, str, str]]:
        """Symbols whose whole name matches a regular expression."""
        matches = re.compile(pattern).fullmatch
        return (symbol for symbol in self if matches(symbol[2]))
