"""Where the symbols of a module's file lie by the loader's layout, and what refers to them.

A package has four thousand modules with millions of references. So a file's tables are read as whole columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.check.modules.linked_module import SEGMENTS
from hybridbridge_vol.elf_headers import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHN_ABS,
    SHN_LORESERVE,
    SHN_UNDEF,
    STB_LOCAL,
)
from hybridbridge_vol.kernel_file.module import R_64, ModuleFile

Column = npt.NDArray[np.int64]
References = npt.NDArray[np.int64]
"""Four rows: offsets, kinds in the file, places (see `LinkedModule`), and offsets from these."""

_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
"""Elf64_Sym"""
_RELOCATION = np.dtype([("offset", "<i8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
"""Elf64_Rela"""
_POSITIVE = (1 << 63) - 1


class FileReferences:
    """The places of one file's symbols, and what refers to them. `layouts` and `sizes` are of `SEGMENTS`;
    `imports` are the names of the symbols that others define, each with its number among them; `absolute` is
    the number of the place before theirs."""

    def __init__(self, file: ModuleFile) -> None:
        self._file = file
        laid_out = (file.text_layout(), file.rodata_layout(), file.later_layout(), file.data_layout())
        self.layouts = [layout for layout, _size in laid_out]
        self.sizes = [size for _layout, size in laid_out]
        count = len(file.sections)
        self._place = np.zeros(count, np.int64)
        self._start = np.zeros(count, np.int64)
        for segment, layout in zip(SEGMENTS, self.layouts, strict=True):
            for section, start in layout.items():
                self._place[section], self._start[section] = segment, start
        others = [
            one.number
            for one in file.sections
            if one.flags & SHF_ALLOC and not any(one.number in layout for layout in self.layouts)
        ]
        self._place[others] = np.arange(len(others)) + len(SEGMENTS)
        self.absolute = len(SEGMENTS) + len(others)
        self.imports: dict[str, int] = {}
        # number 0 is the symbol that stands for none: a file without symbols has it too
        self._symbols = np.frombuffer(file.symbol_table or bytes(_SYMBOL.itemsize), _SYMBOL)
        self.symbol_section = self._symbols["section"].astype(np.int64)
        self.symbol_value = self._symbols["value"].astype(np.int64)
        self.symbol_place = self._places_of_symbols()

    def _places_of_symbols(self) -> Column:
        sections = self.symbol_section
        undefined = sections == SHN_UNDEF
        inside = (sections < min(SHN_LORESERVE, len(self._file.sections))) & ~undefined
        at = np.where(inside, sections, 0)
        places = np.where(inside, self._place[at], self.absolute)
        self.symbol_value += np.where(inside, self._start[at], 0)
        numbers = np.flatnonzero(undefined & (self._symbols["name"] != 0))
        for number, name_at in zip(numbers.tolist(), self._symbols["name"][numbers].tolist(), strict=True):
            name = self._file.symbol_name(name_at)
            if name:
                places[number] = self.absolute + 1 + self.imports.setdefault(name, len(self.imports))
        self.symbol_value[undefined | (sections == SHN_ABS)] &= _POSITIVE
        return places

    def place_of(self, section: int, offset: int) -> tuple[int, int]:
        """The place, and the offset from it, of an offset in a section."""
        return int(self._place[section]), int(self._start[section]) + offset

    def of_section(self, section: int) -> References:
        """The references in a section; their offsets count from its beginning."""
        start, end = self._bounds.get(section, (0, 0))
        return self._all[:, start:end]

    def of_code(self) -> References:
        """Those in all its code, that of initialisation included. Their offsets count from the beginning of
        the section, whose number is in the upper 32 bits."""
        found = [np.zeros((4, 0), np.int64)]
        for section in self._file.sections:
            if section.flags & SHF_EXECINSTR:
                found.append(self.of_section(section.number).copy())
                found[-1][0] += section.number << 32
        return np.concatenate(found, axis=1)

    def of_data(self) -> Iterator[tuple[int, int, int, int]]:
        """The 64-bit references in all its data, that of initialisation included: section and offset in it,
        place and offset there."""
        for section in self._file.sections:
            if section.flags & SHF_ALLOC and not section.flags & SHF_EXECINSTR:
                found = self.of_section(section.number)
                for offset, _kind, place, addend in found[:, found[1] == R_64].T.tolist():
                    yield section.number, offset, place, addend

    def symbols(self) -> dict[str, tuple[int, int]]:
        """The symbols that it defines in its sections, each with its place and its offset there."""
        places, starts = self._place.tolist(), self._start.tolist()
        return {
            symbol.name: (places[symbol.section], starts[symbol.section] + symbol.value)
            for symbol in self._file.symbols()
            if SHN_UNDEF < symbol.section < len(self._file.sections) and symbol.name
        }

    @cached_property
    def _bounds(self) -> dict[int, tuple[int, int]]:
        """By its number, which of all references are in a section."""
        tables = self._file.relocation_tables
        ends = list(accumulate(len(table) // _RELOCATION.itemsize for table in tables.values()))
        return dict(zip(tables, pairwise([0, *ends]), strict=True))

    @cached_property
    def _all(self) -> References:
        """The references in all sections, one section after the other."""
        raw = np.frombuffer(b"".join(self._file.relocation_tables.values()), _RELOCATION)
        symbols = raw["symbol"]
        if len(symbols) and symbols.max() >= len(self.symbol_place):
            symbols = np.where(symbols < len(self.symbol_place), symbols, 0)
        found = np.empty((4, len(raw)), np.int64)
        found[0], found[1], found[2] = raw["offset"], raw["kind"], self.symbol_place[symbols]
        np.add(self.symbol_value[symbols], raw["addend"], out=found[3])
        return found

    # --- names --------------------------------------------------------------------------------------------

    def named(self, prefix: str) -> list[tuple[str, int]]:
        """The names of symbols that begin so, each with its symbol's number, in their order."""
        begins = self._file.name_offsets(prefix)
        if not begins:
            return []
        return self._with_names(np.flatnonzero(np.isin(self._symbols["name"], list(begins))))

    def global_names(self) -> list[tuple[str, int]]:
        """The same of the symbols that it defines and that are not local."""
        is_global = (self._symbols["info"] >> 4 != STB_LOCAL) & (self.symbol_section != SHN_UNDEF)
        return self._with_names(np.flatnonzero(is_global))

    def _with_names(self, numbers: Column) -> list[tuple[str, int]]:
        names = map(self._file.symbol_name, self._symbols["name"][numbers].tolist())
        return list(zip(names, numbers.tolist(), strict=True))

    def location(self, symbol: int) -> tuple[int, int]:
        """A symbol's place and its offset from there."""
        return int(self.symbol_place[symbol]), int(self.symbol_value[symbol])
