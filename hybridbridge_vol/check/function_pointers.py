"""Pointers to functions, and to tables of functions, in a kernel's writable data: their linked values, and
the values that the kernel's own code may store there.

This is the evidence only: `kernel_pointers` decides which pointer is explained by it and which is a hook, and
`integrity` reports.

Every pointer that was linked into data is a 64-bit relocation site, so the pointers are known without
knowledge of any structure.
"""

from __future__ import annotations

import contextlib
import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np

from hybridbridge_vol.check.instructions import Reader
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import U64

Range = tuple[int, int]
_MOST_FUNCTIONS = 64
_COMPARING = ("cmp", "test", "push")
"""They do not write their first operand."""
_LOAD = re.compile(r"mov rdx, qword ptr \[r\w+(?: \+ (0x[0-9a-f]+|\d+))?\]")
"""Of the third argument, from a structure."""
_ADDRESS = re.compile(r"\[(0x[0-9a-f]{16})\]")


def sites_in(abs64: array[int], ranges: Iterable[Range]) -> Iterator[int]:
    """The relocated words in some ranges."""
    for start, end in ranges:
        yield from abs64[bisect_left(abs64, start) : bisect_left(abs64, end)]


def unequal_words(sites: Iterable[int], found: bytearray, expected: bytearray) -> list[int]:
    """Which of the words at some offsets differ."""
    offsets = np.fromiter(sites, np.int64)
    count = min(len(found), len(expected)) - 7
    before, after = (np.ndarray((count,), "<u8", data, 0, (1,))[offsets] for data in (expected, found))
    differing: list[int] = offsets[before != after].tolist()
    return differing


def inside(offset: int, ranges: Iterable[Range]) -> bool:
    """Whether an offset lies in one of some ranges."""
    return any(start <= offset < end for start, end in ranges)


def holds_pointers(abs64: array[int], start: int, end: int) -> bool:
    """Whether a constant holds relocated words: a table of operations does, a string does not."""
    index = bisect_left(abs64, start)
    return index < len(abs64) and abs64[index] < end


class Stores:
    """Searches the kernel's code, as linked, for functions that write a variable. Offsets count from
    `_text`."""

    def __init__(
        self,
        flat: bytes | bytearray,
        abs32: array[int],
        symbols: Symbols,
        text_link_vaddr: int,
        reader: Reader,
    ) -> None:
        self._flat = flat
        self._abs32 = abs32
        self._symbols = symbols
        self._text = text_link_vaddr
        self._reader = reader

    def stores(self, target: int, variable: int) -> bool:
        """Whether some function of the kernel takes the address `target` and writes the word at
        `variable`."""
        users = sorted(self._users(target))[:_MOST_FUNCTIONS]
        return any(self._writes(start, end, variable) for start, end in users)

    def passes(self, target: int, variable: int) -> bool:
        """Whether some function of the kernel takes both addresses, as one that passes them to a third
        does."""
        return not self._users(target).isdisjoint(self._users(variable))

    def hands_over(self, target: int, variable: int) -> bool:
        """Whether some function of the kernel passes the address `target` to one that writes the word at
        `variable`, or takes its address: as cpu_select_mitigations() calls set_return_thunk()
        (arch/x86/kernel/cpu/bugs.c), and kvmclock_init() calls paravirt_set_sched_clock(), whose variable is
        the key of a static call."""
        taken = f", {self._text + target & U64:#x}"
        takers = self._users(variable)
        for start, end in sorted(self._users(target))[:_MOST_FUNCTIONS]:
            register = None
            for instruction in self._reader.decode(bytes(self._flat[start:end]), self._text + start):
                written = instruction.operands.partition(",")[0]
                if instruction.operands.endswith(taken):
                    register = written
                elif register is not None and instruction.mnemonic in ("call", "jmp"):
                    callee = self._around((instruction.target or self._text) - self._text)
                    if callee in takers or self._writes(*callee, variable):
                        return True
                    register = None
                elif register is not None and instruction.mnemonic not in _COMPARING:
                    register = None if written in _names_of(register) else register
        return False

    def slots_copied_to(self, variable: int) -> set[int]:
        """Offsets in structures from which some function of the kernel loads its third argument right before
        it takes the address `variable`: as perf_register_guest_info_callbacks() (kernel/events/core.c) gives
        what its caller's structure holds to the keys of static calls."""
        taken = f", {self._text + variable & U64:#x}"
        found: set[int] = set()
        for start, end in sorted(self._users(variable))[:_MOST_FUNCTIONS]:
            slot = None
            for instruction in self._reader.decode(bytes(self._flat[start:end]), self._text + start):
                load = _LOAD.fullmatch(str(instruction))
                if load is not None:
                    slot = int(load[1] or "0", 0)
                elif instruction.target is not None:
                    slot = None
                elif slot is not None and instruction.operands.endswith(taken):
                    found.add(slot)
        return found

    def refers_to_both(self, target: int, ranges: Iterable[Range]) -> bool:
        """Whether some function of the kernel takes the address `target` and refers to one of `ranges`: calls
        or reads it."""
        wanted = [range(self._text + start, self._text + end) for start, end in ranges]
        for start, end in sorted(self._users(target))[:_MOST_FUNCTIONS]:
            for instruction in self._reader.decode(bytes(self._flat[start:end]), self._text + start):
                vaddrs = {
                    instruction.target,
                    *(int(number, 16) for number in _ADDRESS.findall(instruction.operands)),
                }
                if any(vaddr in some for vaddr in vaddrs if vaddr is not None for some in wanted):
                    return True
        return False

    def _users(self, target: int) -> set[Range]:
        """The functions that take an address."""
        wanted = self._text + target & 0xFFFFFFFF
        found: set[Range] = set()
        index = -1
        with contextlib.suppress(ValueError):
            while True:
                index = self._values.index(wanted, index + 1)
                found.add(self._around(self._abs32[index]))
        return found

    @cached_property
    def _values(self) -> array[int]:
        """The linked value at each of the 32-bit sites."""
        read, flat = struct.Struct("<I").unpack_from, self._flat
        return array("I", [read(flat, site)[0] for site in self._abs32])

    def _around(self, site: int) -> Range:
        """The function around an offset; an empty range if there is none."""
        found = self._symbols.lookup(self._text + site)
        if found is None:
            return site, site
        start = self._text + site - found[1]
        return start - self._text, (self._symbols.next_address(self._text + site) or start) - self._text

    def _writes(self, start: int, end: int, variable: int) -> bool:
        place = f"[{self._text + variable & U64:#x}],"
        code = bytes(self._flat[start:end])
        return any(
            instruction.mnemonic == "mov" and place in instruction.operands
            for instruction in self._reader.decode(code, self._text + start)
        )


def _names_of(register: str) -> tuple[str, str]:
    """Of a general register of 64 bits: its own name, and that of its lower half, which clears the rest."""
    return register, f"{register}d" if register[1:].isdigit() else f"e{register[1:]}"


def joined(offsets: Iterable[int], gap: int, longest: int = 1 << 30) -> Iterator[Range]:
    """Ranges of ascending offsets that are less than `gap` apart, each not longer than `longest`."""
    start = last = None
    for offset in offsets:
        if start is not None and last is not None and (offset - last >= gap or offset - start >= longest):
            yield start, last + 1
            start = None
        start, last = offset if start is None else start, offset
    if start is not None and last is not None:
        yield start, last + 1
