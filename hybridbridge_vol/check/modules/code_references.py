"""What the code of a module refers to, its initialisation code included, which is no longer in memory: to
find out whether the module itself stores a pointer that is not as its file has it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.cached_method import cached_method
from hybridbridge_vol.check.instructions import Reader, Thunks
from hybridbridge_vol.check.modules.file_references import FileReferences
from hybridbridge_vol.check.modules.linked_module import Vaddrs
from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.elf_headers import SHF_EXECINSTR
from hybridbridge_vol.kernel_file.module import RELATIVE, ModuleFile
from hybridbridge_vol.units import U64

NEAR = 64
"""Bytes of code within which a store refers to the variable and to what is stored: one instruction, or the
arguments of a call of `__static_call_update`."""
_FIELD = 4
"""Bytes of a relative field."""
_BEHIND_FIELD = (4, 5, 6, 8)
"""From a relative field to the end of its instruction: the field itself, and an operand behind it."""
_STORE = re.compile(
    rb"[\x48\x49]\xc7(?:[\x00-\x03\x06\x07]|[\x40-\x43\x45-\x47](?P<near>.)|\x44.(?P<near_2>.)"
    rb"|[\x80-\x83\x85-\x87](?P<far>.{4})|\x84.(?P<far_2>.{4}))",
    re.DOTALL,
)
"""`mov qword ptr [reg + X], imm32` up to the immediate: with no X, with 8 bits or 32 bits of it, with or
without a second register (SDM volume 2, 2.1.5)."""
_CLEARS = re.compile(_STORE.pattern + bytes(4), re.DOTALL)
"""Such an instruction that stores zero."""
_LONGEST_STORE = 8
_LOAD = re.compile(r"mov rdx, qword ptr \[(?:(rip|0x[0-9a-f]+)|r\w+(?: \+ (0x[0-9a-f]+|\d+))?)\]")
"""Of the third argument: from a variable, or from a slot of a structure."""


class Source(NamedTuple):
    """What was loaded: a variable at an address, or a slot, as its offset in a structure."""

    vaddr: int | None
    slot: int | None


def cleared_slots(code: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Of each instruction that stores zero at an offset from a pointer: this offset, and where in `code` the
    zero is. Of a module's file the loader may fill that in."""
    for store in _CLEARS.finditer(code):
        data = next((group for group in store.groups() if group), b"")
        yield int.from_bytes(data, "little", signed=True), store.end() - _FIELD


class _Step(NamedTuple):
    """An instruction of a section: its start and end, what it loads as a third argument, and whether it is a
    call or a jump."""

    start: int
    end: int
    load: re.Match[str] | None
    is_branch: bool


class CodeReferences:
    """The references in the code of a placed module. Their positions are offsets in a section, with its
    number in the upper 32 bits. `references` are those of the file."""

    def __init__(self, placed: PlacedModule, file: ModuleFile, references: FileReferences) -> None:
        self._file = file
        positions, kinds, places, offsets = references.of_code()
        self._positions: npt.NDArray[np.int64] = positions
        self._relative = np.isin(kinds, list(RELATIVE))
        self._known = placed.known(places)
        self._vaddrs: Vaddrs = placed.vaddrs[places] + offsets.view(np.uint64)

    def _of(self, vaddr: int) -> npt.NDArray[np.int64]:
        """Positions of the references to an address."""
        distance = np.uint64(vaddr) - self._vaddrs
        behind = np.isin(distance, np.array(_BEHIND_FIELD, np.uint64))
        fits = np.where(self._relative, behind, distance == 0)
        return self._positions[fits & self._known]

    def stores(self, value: int, variable_vaddr: int, near: int = NEAR) -> bool:
        """Whether code refers to a variable, and close by to an address that it may hold. Zero, which nothing
        refers to, may be stored wherever the code refers to the variable."""
        variables = self._of(variable_vaddr)
        if not value or not len(variables):
            return bool(len(variables))
        values = self._of(value)
        return bool((np.abs(values[:, None] - variables[None, :]) <= near).any())

    def stores_by_pointer(self, value: int, variable_vaddr: int) -> bool:
        """Whether code stores an address at an offset from a pointer, and refers to the place that lies by
        this offset before the variable: to a structure that it passes to a function which fills it in."""
        return any(len(self._of(variable_vaddr - offset & U64)) for offset in self._offsets_stored_to(value))

    def clears(self, slot: int) -> bool:
        """Whether code stores zero at this offset from a pointer, by one instruction."""
        return slot in self._cleared

    @cached_property
    def _cleared(self) -> frozenset[int]:
        filled_in = set(self._positions.tolist())
        return frozenset(
            slot
            for number, section in enumerate(self._file.sections)
            if section.flags & SHF_EXECINSTR
            for slot, field in cleared_slots(section.data)
            if (number << 32) + field not in filled_in
        )

    def _offsets_stored_to(self, value: int) -> set[int]:
        found = set()
        for position in self._of(value).tolist():
            section, field = position >> 32, position & 0xFFFFFFFF
            before = bytes(self._file.sections[section].data[max(field - _LONGEST_STORE, 0) : field])
            for size in range(3, len(before) + 1):
                store = _STORE.fullmatch(before[-size:])
                if store is not None:
                    data = next((group for group in store.groups() if group), b"")
                    found.add(int.from_bytes(data, "little", signed=True))
        return found

    def sources(self, variable_vaddr: int) -> Iterator[Source]:
        """Where the code that hands a variable to a function loads that function's third argument from, as
        `__static_call_update(key, trampoline, function)` is called."""
        for position in self._of(variable_vaddr).tolist():
            section, field = position >> 32, position & 0xFFFFFFFF
            source = None
            is_handed_over = False
            for start, end, load, is_branch in self._around(section, field):
                if start >= field + NEAR:
                    break
                if load is not None:
                    variable = self._vaddr_at.get((section << 32) + end - _FIELD) if load[1] else None
                    source = Source(variable, None if load[1] else int(load[2] or "0", 0))
                is_handed_over = is_handed_over or start <= field < end
                if is_branch:
                    if is_handed_over:
                        break
                    source = None
            if source is not None:
                yield source

    def _around(self, section: int, field: int) -> list[_Step]:
        """The instructions of the function around a field, and a little behind it."""
        starts = self._starts(section)
        number = bisect_right(starts, field)
        end = starts[number] if number < len(starts) else len(self._file.sections[section].data)
        return self._steps(section, starts[number - 1], end + NEAR)

    @cached_method  # one function may hand over a hundred variables
    def _steps(self, section: int, start: int, end: int) -> list[_Step]:
        """Fields that the loader fills in are not filled in."""
        code = bytes(self._file.sections[section].data[start:end])
        return [
            _Step(
                one.vaddr,
                one.vaddr + one.size,
                _LOAD.fullmatch(str(one)) if one.mnemonic == "mov" else None,
                one.mnemonic in ("call", "jmp"),
            )
            for one in Reader(Thunks({}, frozenset())).decode(code, start)
        ]

    @cached_method
    def _starts(self, section: int) -> list[int]:
        return sorted({0, *(one.value for one in self._file.symbols() if one.section == section)})

    @cached_property
    def _vaddr_at(self) -> dict[int, int]:
        """By position: what a relative field at the end of its instruction refers to."""
        fields = self._relative & self._known
        vaddrs = (self._vaddrs[fields] + np.uint64(_FIELD)).tolist()
        return dict(zip(self._positions[fields].tolist(), vaddrs, strict=True))
