"""A kernel's symbol table, in a packed form that is used as it is, without decoding.

Packed: `HBsyms1`, the number of symbols, the size of all names in bytes; then columns in address order:
addresses (8 bytes each), ends of names (4, one more than there are symbols), the numbers of the symbols in
order of their names (4), kinds (1), names without separators. All in the machine's byte order: the table is a
cache, not for exchange.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from mmap import mmap
from typing import overload

_MAGIC = b"HBsyms1\0"
_HEADER = struct.Struct("<8sII")
_KERNEL_HALF = 1 << 63
_RENAMED = re.compile(rb"\.llvm\.\d+")
"""What clang's ThinLTO adds to a static name that other files refer to (`promoteInternals`, llvm/lib/LTO):
the object itself, whole and unchanged."""
_COMPILER_SUFFIXES = re.compile(r"(\.cold(\.\d+)?|\.(part|isra|constprop|llvm)\.\d+)+$")


def plain_name(symbol: str) -> str:
    """A name as in its source: without what compilers add to the names of clones and of parts of functions
    (gcc's `.isra.N`, `.constprop.N`, `.part.N`, `.cold`, clang's `.llvm.N`)."""
    return _COMPILER_SUFFIXES.sub("", symbol) if "." in symbol else symbol


def renamed_whole(symbol: str) -> str | None:
    """The name in its source of a symbol that a compiler renamed as a whole; None if it did not."""
    name, dot, number = symbol.rpartition(".llvm.")
    return name if dot and number.isdecimal() else None


MAX_KEPT = 1 << 16
"""Answers that are kept: names that are asked for may be the image's."""


class Symbols:
    """Symbols in address order, with an index by name.

    Addresses are link-time virtual addresses; per-CPU symbols of kernels whose per-CPU area is linked at 0
    are plain offsets. A name may have several addresses (static functions of different files). Whoever asks
    for a name also finds what a compiler renamed as a whole (`renamed_whole`); clones and parts of functions
    are other code, and are found by their own names only.
    """

    def __init__(
        self,
        addresses: Sequence[int],
        kinds: Sequence[int],
        name_ends: Sequence[int],
        by_name: Sequence[int],
        names: bytes | memoryview,
    ) -> None:
        self._addresses = addresses
        self._kinds = kinds
        self._name_ends = name_ends
        self._by_name = by_name
        self._names = names
        self._asked: dict[str, tuple[list[int], list[int]]] = {}

    @classmethod
    def build(cls, symbols: Iterable[tuple[int, str, str]]) -> Symbols:
        """From `(address, kind, name)` in any order; `kind` is one letter as nm(1) has it."""
        columns = [(address, (kind + name).encode("latin-1")) for address, kind, name in symbols]
        return cls.from_columns([address for address, _ in columns], [raw for _, raw in columns])

    @classmethod
    def from_columns(cls, addresses: Sequence[int], raw_names: Sequence[bytes]) -> Symbols:
        """From columns in one order, whichever it is; the first letter of each name is its kind."""
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
        columns = (array("Q", self._addresses), array("I", self._name_ends), array("I", self._by_name))
        return b"".join([header, *(column.tobytes() for column in columns), bytes(self._kinds), self._names])

    @classmethod
    def unpack(cls, packed: bytes | memoryview | mmap) -> Symbols:
        """Back from `pack`. Reads only the header; `packed` must stay open. ValueError if it was not made by
        `pack`.
        """
        if len(packed) < _HEADER.size:
            raise ValueError("not a packed symbol table")
        view = memoryview(packed)
        magic, count, names_size = _HEADER.unpack_from(view)
        sizes = (8 * count, 4 * (count + 1), 4 * count, count, names_size)
        if magic != _MAGIC or len(view) != _HEADER.size + sum(sizes):
            raise ValueError("not a packed symbol table")
        ends = list(accumulate(sizes, initial=_HEADER.size))
        addresses, name_ends, by_name, kinds, names = (view[start:end] for start, end in pairwise(ends))
        return cls(addresses.cast("Q"), kinds, name_ends.cast("I"), by_name.cast("I"), names)

    def __len__(self) -> int:
        return len(self._kinds)

    def _name(self, index: int) -> bytes:
        return bytes(self._names[self._name_ends[index] : self._name_ends[index + 1]])

    def _under(self, wanted: bytes) -> Iterator[tuple[int, bytes]]:
        """Address and name of the symbols whose names begin so, in order of their names."""
        for position in range(bisect_left(self._by_name, wanted, key=self._name), len(self)):
            index = self._by_name[position]
            name = self._name(index)
            if not name.startswith(wanted):
                return
            yield self._addresses[index], name

    def addresses(self, name: str) -> list[int]:
        """Every address of `name`, ascending."""
        exact, renamed = self._found(name)
        return sorted(exact + renamed)

    def _found(self, name: str) -> tuple[list[int], list[int]]:
        """The addresses of a name as it is, ascending, and of what was renamed from it; kept, as the same few
        are asked for with each call."""
        found = self._asked.get(name)
        if found is None:
            if len(self._asked) >= MAX_KEPT:
                self._asked.clear()
            found = self._asked[name] = self._search(name)
        return found

    def _search(self, name: str) -> tuple[list[int], list[int]]:
        wanted = name.encode("latin-1", "replace")  # no kernel has "?" in a name
        exact = []
        renamed = []
        for address, found in self._under(wanted):
            if found == wanted:
                exact.append(address)
            elif _RENAMED.fullmatch(found, len(wanted)):
                renamed.append(address)
            elif found > wanted + b".\xff":  # a longer name: none with a suffix follows
                break
        return exact, renamed

    def find(self, names: Iterable[str]) -> dict[str, list[int]]:
        """As `addresses`, for many names in one pass; without those that are not there."""
        wanted = {name.encode("latin-1", "replace"): name for name in names}
        found: dict[str, list[int]] = {}
        blob = bytes(self._names)
        has_renamed = b".llvm." in blob
        for index, (start, end) in enumerate(pairwise(self._name_ends)):
            raw = blob[start:end]
            name = wanted.get(_RENAMED.sub(b"", raw) if has_renamed else raw)
            if name is not None:
                found.setdefault(name, []).append(self._addresses[index])
        return found

    @overload
    def get(self, name: str) -> int | None: ...
    @overload
    def get(self, name: str, default: int) -> int: ...
    def get(self, name: str, default: int | None = None) -> int | None:
        """The (lowest) address of `name`: of one that was renamed only if none has the name itself."""
        exact, renamed = self._found(name)
        return exact[0] if exact else min(renamed, default=default)

    def address(self, name: str) -> int:
        """The (lowest) address of `name`; KeyError if the kernel has no such symbol."""
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: str) -> bool:
        return bool(self.addresses(name))

    def lookup(self, vaddr: int) -> tuple[str, int] | None:
        """`(name, offset)` of the symbol at or before `vaddr`; the first of aliases, as the kernel does.

        None outside of what the symbols span: before the first, beyond the last (`_end`), between the offsets
        of the per-CPU area and the kernel.
        """
        after = bisect_right(self._addresses, vaddr)
        if after == 0:
            return None
        start = self._addresses[after - 1]
        following = self._addresses[after] if after < len(self) else None
        if vaddr != start and (following is None or start < _KERNEL_HALF <= following):
            return None
        return self._name(bisect_left(self._addresses, start)).decode("latin-1"), vaddr - start

    def names_at(self, vaddr: int) -> Iterator[tuple[str, str]]:
        """`(kind, name)` of all symbols at exactly this address, in their order."""
        for index in range(bisect_left(self._addresses, vaddr), bisect_right(self._addresses, vaddr)):
            yield chr(self._kinds[index]), self._name(index).decode("latin-1")

    def kind(self, name: str, vaddr: int) -> str:
        """The letter of `name` at one of its addresses."""
        return next(kind for kind, other in self.names_at(vaddr) if name in (other, renamed_whole(other)))

    def next_address(self, vaddr: int) -> int | None:
        """The next higher address that a symbol has; None if there is none."""
        index = bisect_right(self._addresses, vaddr)
        return self._addresses[index] if index < len(self) else None

    def size(self, name: str) -> int:
        """Bytes from `name` to the next higher symbol; KeyError if the kernel has no such symbol."""
        start = self.address(name)
        return (self.next_address(start) or start) - start

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        """`(address, kind, name)` in address order."""
        names = str(self._names, "latin-1")
        start = 0
        for address, kind, end in zip(self._addresses, self._kinds, self._name_ends[1:], strict=True):
            yield address, chr(kind), names[start:end]
            start = end

    def matching(self, pattern: str) -> Iterator[tuple[int, str, str]]:
        """Symbols whose whole name matches a regular expression."""
        matches = re.compile(pattern).fullmatch
        return (symbol for symbol in self if matches(symbol[2]))

    def with_prefix(self, prefix: str) -> Iterator[tuple[int, str]]:
        """`(address, name)` of the symbols whose names begin with `prefix`, in order of their names."""
        for address, name in self._under(prefix.encode("latin-1")):
            yield address, name.decode("latin-1")
