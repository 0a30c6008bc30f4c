"""The patch sites in a kernel's text, which the kernel itself rewrites, from its own tables.

A kernel adapts its text to the machine while it boots and while it runs: every patch site is in a table, and
each table lies between two symbols. All sites are offsets from `_text`. Tables that a kernel does not have
are empty.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hybridbridge_vol.kernel_file.jump_entries import jump_entries

JUMP_ENTRY = 16
"""struct jump_entry, include/linux/jump_label.h: distances to code and target (32 bits), to the key (64
bits)."""
PARAVIRT_ENTRY = 16
"""struct paravirt_patch_site, arch/x86/include/asm/paravirt_types.h: address, type and length (one byte
each)."""
_ALTERNATIVE_ENTRIES = {12: "<iiHBB", 13: "<iiHBBB", 14: "<iiIBB"}
"""struct alt_instr, arch/x86/include/asm/alternative.h: distances to the code and to its replacement, feature
and flags, the two lengths; with the length of the padding up to 5.12, with 32 bits of features from 6.3."""
ALTERNATIVE_SIZES = {12: 10, 13: 10, 14: 12}
"""Length of an entry to the offset of the two lengths in it."""

_WIDEST = 6
"""Bytes of the longest instruction at a site."""


class SymbolTable(Protocol):
    """As much of a symbol table as this module needs (link-time addresses)."""

    def get(self, name: str) -> int | None:
        """Address of a symbol."""

    def with_prefix(self, prefix: str) -> Iterator[tuple[int, str]]:
        """`(address, name)` of the symbols whose names begin so."""


class Alternative(NamedTuple):
    """`size` bytes at `code` may be replaced by the `replacement_size` bytes at `replacement`, filled up with
    nops."""

    code: int
    size: int
    replacement: int
    replacement_size: int


class Branch(NamedTuple):
    """A static branch: `size` bytes at `code` are a nop or a jump to `target`, as the key at `key` says."""

    code: int
    size: int
    target: int
    key: int


class StaticCall(NamedTuple):
    """A static call: five bytes at `code` call the function that the key at `key` names; `tail`: jump to
    it."""

    code: int
    key: int
    tail: bool


class RuntimeConstant(NamedTuple):
    """An immediate of `size` bytes at `code` takes the value of the variable `name` (from 6.11)."""

    code: int
    size: int
    name: str


@dataclass(frozen=True)
class PatchTables:
    """Where the kernel rewrites itself. Offsets from `_text`, in the tables' own order.

    `mcount`: five bytes at the beginning of a function that call `__fentry__`; `returns`: five bytes that
    jump to the return thunk; `retpolines`: a call of, or a jump to a thunk for an indirect branch; `locks`: a
    lock prefix; `seals`: four bytes, an `endbr64` that no indirect branch needs; `preambles`: what
    `check.call_checks` is about, in front of a function.
    """

    alternatives: list[Alternative]
    paravirt: list[tuple[int, int]]
    """`(code, size)` of calls through `pv_ops`."""
    branches: list[Branch]
    static_calls: list[StaticCall]
    """Those of the kernel's table, and the trampolines that a static call not in it goes through."""
    constants: list[RuntimeConstant]
    mcount: array[int]
    returns: array[int]
    retpolines: array[int]
    locks: array[int]
    seals: array[int]
    preambles: array[int]

    def calls(self) -> Iterator[int]:
        """Where a direct call may stand: after patching, at these places."""
        yield from (call.code for call in self.static_calls if not call.tail)
        yield from (one.code for one in self.alternatives)
        yield from (code for code, _size in self.paravirt)

    def within(self, start: int, end: int) -> PatchTables:
        """Those whose site begins in a range."""

        def inside(code: int) -> bool:
            return start <= code < end

        return PatchTables(
            [one for one in self.alternatives if inside(one.code)],
            [one for one in self.paravirt if inside(one[0])],
            [one for one in self.branches if inside(one.code)],
            [one for one in self.static_calls if inside(one.code)],
            [one for one in self.constants if inside(one.code)],
            *(
                array("I", filter(inside, sites))
                for sites in (
                    self.mcount, self.returns, self.retpolines, self.locks, self.seals, self.preambles,
                )
            ),
        )  # fmt: skip


def read_patch_tables(flat: bytes | bytearray, symbols: SymbolTable, text_link_vaddr: int) -> PatchTables:
    """The tables of a kernel as linked, `flat` from `_text` on. Entries that lead out of it are left out."""
    tables = _Reader(flat, symbols, text_link_vaddr)
    return PatchTables(
        tables.alternatives(),
        tables.paravirt(),
        tables.branches(),
        tables.static_calls(),
        tables.constants(),
        tables.addresses("__start_mcount_loc", "__stop_mcount_loc"),
        tables.distances("__return_sites", "__return_sites_end"),
        tables.distances("__retpoline_sites", "__retpoline_sites_end"),
        tables.distances("__smp_locks", "__smp_locks_end"),
        tables.distances("__ibt_endbr_seal", "__ibt_endbr_seal_end"),
        tables.distances("__cfi_sites", "__cfi_sites_end"),
    )


def read_call_sites(flat: bytes | bytearray, symbols: SymbolTable, text_link_vaddr: int) -> array[int]:
    """Offsets of the direct calls of a kernel as linked; since 6.2, for call-depth tracking."""
    return _Reader(flat, symbols, text_link_vaddr).distances("__call_sites", "__call_sites_end")


class _Reader:
    def __init__(self, flat: bytes | bytearray, symbols: SymbolTable, text: int) -> None:
        self._flat = memoryview(flat)
        self._symbols = symbols
        self._text = text

    def _bounds(self, first: str, last: str) -> tuple[int, int]:
        start, stop = self._symbols.get(first), self._symbols.get(last)
        if start is None or stop is None:
            return 0, 0
        start, stop = start - self._text, stop - self._text
        return (start, stop) if 0 <= start <= stop <= len(self._flat) else (0, 0)

    def _entries(self, bounds: tuple[int, int], layout: str) -> Iterator[tuple[int, tuple[int, ...]]]:
        """`(offset, fields)` of each whole entry."""
        start, stop = bounds
        size = struct.calcsize(layout)
        stop -= (stop - start) % size
        for number, fields in enumerate(struct.iter_unpack(layout, self._flat[start:stop])):
            yield start + number * size, fields

    def _inside(self, offset: int, size: int = 1) -> bool:
        return 0 <= offset <= len(self._flat) - size

    def distances(self, first: str, last: str) -> array[int]:
        """Places that are given by their distance from the entry."""
        start, stop = self._bounds(first, last)
        words = self._flat[start : stop - (stop - start) % 4].cast("i")
        end = len(self._flat) - _WIDEST
        return array(
            "I", [place for at, word in enumerate(words) if 0 <= (place := start + 4 * at + word) <= end]
        )

    def addresses(self, first: str, last: str) -> array[int]:
        """Places that are given by their address."""
        start, stop = self._bounds(first, last)
        words = self._flat[start : stop - (stop - start) % 8].cast("Q")
        end = len(self._flat) - _WIDEST
        return array("I", [place for word in words if 0 <= (place := word - self._text) <= end])

    def alternatives(self) -> list[Alternative]:
        """The layout is the one under which all entries lead into the kernel and replace no more than they
        may."""
        bounds = self._bounds("__alt_instructions", "__alt_instructions_end")
        for size, layout in _ALTERNATIVE_ENTRIES.items():
            if (bounds[1] - bounds[0]) % size:
                continue
            found = []
            for entry, fields in self._entries(bounds, layout):
                one = Alternative(entry + fields[0], fields[3], entry + 4 + fields[1], fields[4])
                if not (
                    self._inside(one.code, one.size)
                    and self._inside(one.replacement, one.replacement_size)
                    and 0 < one.size >= one.replacement_size
                ):
                    break
                found.append(one)
            else:
                return found
        return []

    def paravirt(self) -> list[tuple[int, int]]:
        """See `PatchTables`."""
        bounds = self._bounds("__parainstructions", "__parainstructions_end")
        start, stop = bounds
        found = []
        for entry in range(start, stop - 9, PARAVIRT_ENTRY):  # the last one may lack its padding
            code, _type, size = struct.unpack_from("<QBB", self._flat, entry)
            if self._inside(code - self._text, size):
                found.append((code - self._text, size))
        return found

    def branches(self) -> list[Branch]:
        """The size is that of the instruction that was linked: `jmp rel8` or a nop of two bytes, else
        five."""
        found = []
        bounds = self._bounds("__start___jump_table", "__stop___jump_table")
        for site, goal, owner, _flags in jump_entries(self._flat, *bounds, self._text):
            if self._inside(site, 5) and self._inside(goal):
                size = 2 if self._flat[site] in (0xEB, 0x66) else 5
                found.append(Branch(site, size, goal, owner))
        return found

    def static_calls(self) -> list[StaticCall]:
        """struct static_call_site, include/linux/static_call_types.h; bit 0 of the key: a tail call."""
        found = []
        for entry, (code, key) in self._entries(
            self._bounds("__start_static_call_sites", "__stop_static_call_sites"), "<ii"
        ):
            site, owner = entry + code, entry + 4 + key
            if self._inside(site, _WIDEST):
                found.append(StaticCall(site, owner & ~3, bool(owner & 1)))
        return found + list(self._trampolines())

    def _trampolines(self) -> Iterator[StaticCall]:
        """A jump at `__SCT__NAME` for the key at `__SCK__NAME`."""
        keys = {
            name.removeprefix("__SCK__"): address for address, name in self._symbols.with_prefix("__SCK__")
        }
        for address, name in self._symbols.with_prefix("__SCT__"):
            key = keys.get(name.removeprefix("__SCT__"))
            if key is not None and self._inside(address - self._text, _WIDEST):
                yield StaticCall(address - self._text, key - self._text, True)

    def constants(self) -> list[RuntimeConstant]:
        """arch/x86/include/asm/runtime-const.h: one table for each variable, named after it."""
        found = []
        for kind, size in (("ptr", 8), ("shift", 1), ("mask", 4)):
            prefix = f"__start_runtime_{kind}_"
            for _address, name in self._symbols.with_prefix(prefix):
                variable = name.removeprefix(prefix)
                places = self.distances(name, name.replace("start", "stop", 1))
                found += [RuntimeConstant(place, size, variable) for place in places]
        return found
