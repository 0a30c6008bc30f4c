"""Takes out of a module's file what `LinkedModule` has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.check.modules.link_tables import TableReader
from hybridbridge_vol.check.modules.linked_module import (
    DATA,
    FAR,
    IS_FAR,
    IS_RELATIVE,
    LATER,
    RODATA,
    SEGMENTS,
    TEXT,
    LinkedModule,
    LinkedSegment,
    Numbers,
)
from hybridbridge_vol.elf_headers import SHF_ALLOC, SHF_EXECINSTR, SHN_ABS, SHN_LORESERVE, SHN_UNDEF
from hybridbridge_vol.kernel_file.module import (
    R_64,
    RELATIVE,
    WIDTHS,
    ModuleFile,
)

Column = npt.NDArray[np.int64]

_NOP5 = b"\x0f\x1f\x44\x00\x00"
_CALL = 0xE8
_FENTRY = "__fentry__"
_COMPARED = {TEXT: ("",), RODATA: (".rodata", ".data.rel.ro"), LATER: (".data",), DATA: ("",)}
"""Sections that count, by how their names begin: the other constant ones are the loader's tables, some of
which it sorts."""
_STRUCT_SECTION = ".gnu.linkonce.this_module"
_KSYMTAB = "__ksymtab_"
_NOWHERE = 1 << 62
_VOTES = 15
"""References by which a place is found: more than half of them must agree."""


def link(name: str, file: ModuleFile) -> LinkedModule:
    """The module. KernelFileError if the file is damaged."""
    return _Linker(name, file).linked()


def code_references(name: str, file: ModuleFile) -> tuple[Column, Column, Column, npt.NDArray[np.bool_]]:
    """The references of all its code, that of initialisation included, as `CodeReferences` takes them."""
    linker = _Linker(name, file)
    found = [np.zeros((4, 0), np.int64)]
    for section in file.sections:
        if section.flags & SHF_EXECINSTR:
            offsets, kinds, places, addends = linker.references(section.number)
            relative = np.isin(kinds, list(RELATIVE)).astype(np.int64)
            found.append(np.stack([offsets + (section.number << 32), places, addends, relative]))
    positions, places, addends, relative = np.concatenate(found, axis=1)
    return positions, places, addends, relative.astype(bool)


def data_references(name: str, file: ModuleFile) -> Iterator[tuple[int, int, int, int]]:
    """The 64-bit references in all its data, that of initialisation included: section and offset in it, place
    and offset there."""
    linker = _Linker(name, file)
    for section in file.sections:
        if section.flags & SHF_ALLOC and not section.flags & SHF_EXECINSTR:
            offsets, kinds, places, addends = linker.references(section.number)
            far = kinds == R_64
            for offset, place, addend in zip(
                offsets[far].tolist(), places[far].tolist(), addends[far].tolist(), strict=True
            ):
                yield section.number, offset, place, addend


def symbol_places(file: ModuleFile) -> dict[str, tuple[int, int]]:
    """The symbols of a file, each with its place and its offset there."""
    linker = _Linker("", file)
    return {
        symbol.name: linker.place_of(symbol.section, symbol.value)
        for symbol in file.symbols()
        if SHN_UNDEF < symbol.section < len(file.sections) and symbol.name
    }


class _Linker:
    """The places of one file's symbols, and what refers to them."""

    def __init__(self, name: str, file: ModuleFile) -> None:
        self._name = name
        self._file = file
        layouts = (file.text_layout(), file.rodata_layout(), file.later_layout(), file.data_layout())
        self._layouts = [layout for layout, _size in layouts]
        self._sizes = [size for _layout, size in layouts]
        count = len(file.sections)
        self._place = np.zeros(count, np.int64)
        self._start = np.zeros(count, np.int64)
        for segment, layout in zip(SEGMENTS, self._layouts, strict=True):
            for section, start in layout.items():
                self._place[section], self._start[section] = segment, start
        others = [
            one.number
            for one in file.sections
            if one.flags & SHF_ALLOC and not any(one.number in layout for layout in self._layouts)
        ]
        self._place[others] = np.arange(len(others)) + len(SEGMENTS)
        self._absolute = len(SEGMENTS) + len(others)
        self._imports: dict[str, int] = {}
        symbols = np.array(file.symbol_offsets or [(0, 0)], np.int64).reshape(-1, 2)
        self._symbol_section, self._symbol_value = symbols[:, 0], symbols[:, 1]
        self._symbol_place = self._places_of_symbols()

    def _places_of_symbols(self) -> Column:
        sections = self._symbol_section
        inside = (sections > SHN_UNDEF) & (sections < min(SHN_LORESERVE, len(self._file.sections)))
        at = np.where(inside, sections, 0)
        places = np.where(inside, self._place[at], self._absolute)
        self._symbol_value = self._symbol_value + np.where(inside, self._start[at], 0)
        for number in np.flatnonzero(sections == SHN_UNDEF).tolist():
            name = self._file.symbol(number).name
            if name:
                places[number] = self._absolute + 1 + self._imports.setdefault(name, len(self._imports))
        self._symbol_value[(sections == SHN_UNDEF) | (sections == SHN_ABS)] &= (1 << 63) - 1
        return places

    def place_of(self, section: int, offset: int) -> tuple[int, int]:
        """See the function of that name."""
        return int(self._place[section]), int(self._start[section]) + offset

    def linked(self) -> LinkedModule:
        """All of it."""
        text, rodata = self._segment(TEXT), self._segment(RODATA)
        later, data = (self._pointers(self._segment(segment), rodata) for segment in (LATER, DATA))
        own = self._file.section(_STRUCT_SECTION)
        reader = TableReader(self._file, bytes(text.content), self.references)
        return LinkedModule(
            self._name,
            self._file.build_id,
            (text, rodata, later, data),
            self._absolute,
            list(self._imports),
            self._exports(),
            None if own is None else (int(self._place[own.number]), int(self._start[own.number])),
            reader.sites(self._trampolines()),
        )

    def references(self, section: int) -> tuple[Column, Column, Column, Column]:
        """`(offset in the section, kind in the file, place, offset from the place)` of its references."""
        packed = np.frombuffer(self._file.relocation_bytes(section), "<u8").reshape(-1, 3)
        symbols = (packed[:, 1] >> np.uint64(32)).astype(np.int64)
        symbols[symbols >= len(self._symbol_place)] = 0
        return (
            packed[:, 0].astype(np.int64),
            (packed[:, 1] & np.uint64(0xFFFFFFFF)).astype(np.int64),
            self._symbol_place[symbols],
            self._symbol_value[symbols] + packed[:, 2].view(np.int64),
        )

    # --- segments -----------------------------------------------------------------------------------------

    def _segment(self, segment: int) -> LinkedSegment:
        content = np.zeros(self._sizes[segment], np.uint8)
        found = [np.zeros((4, 0), np.int64)]
        compared = []
        for section, start in self._layouts[segment].items():
            one = self._file.sections[section]
            if not one.name.startswith(_COMPARED[segment]):
                continue
            content[start : start + len(one.data)] = np.frombuffer(one.data, np.uint8)
            compared += [start, start + one.size]
            offsets, kinds, places, addends = self.references(section)
            found.append(np.stack([offsets + start, kinds, places, addends]))
        references = self._without_tracer(np.concatenate(found, axis=1), content)
        order, counts = _by_kind(references[1], references[0], len(content))
        offsets, _kinds, places, addends = references[:, order]
        return LinkedSegment(
            content,
            np.array(compared, np.uint32),
            offsets.astype(np.uint32),
            places.astype(np.uint32),
            addends,
            np.array(counts, np.uint32),
            _some_of_each(places, self._absolute),
            np.array([len(content)], np.uint32),
        )

    def _pointers(self, data: LinkedSegment, rodata: LinkedSegment) -> LinkedSegment:
        """Data with only its references to code, to constants that hold references themselves, and to other
        modules and the kernel."""
        far = data.kinds()[FAR][1]
        offsets, targets, addends = data.offsets[far], data.targets[far].astype(np.int64), data.addends[far]
        starts = np.unique(self._symbol_value[(self._symbol_place == RODATA) & (self._symbol_section > 0)])
        bounds = np.append(starts, len(rodata.content))
        behind = bounds[np.minimum(np.searchsorted(bounds, addends, "right"), len(bounds) - 1)]
        held = np.sort(rodata.offsets[rodata.kinds()[FAR][1]].astype(np.int64))
        first = np.append(held, _NOWHERE)[np.searchsorted(held, addends, "left")]
        wanted = (targets == TEXT) | ((targets == RODATA) & (first < behind)) | (targets > self._absolute)
        return LinkedSegment(
            np.zeros(0, np.uint8),
            np.zeros(0, np.uint32),
            offsets[wanted],
            targets[wanted].astype(np.uint32),
            addends[wanted],
            np.array([0, 0, np.count_nonzero(wanted), 0], np.uint32),
            np.zeros(0, np.uint32),
            data.length,
        )

    def _without_tracer(self, references: Column, content: npt.NDArray[np.uint8]) -> Column:
        """Without the calls of the tracer, in place of which `content` gets nops, as the loader leaves it."""
        number = self._imports.get(_FENTRY)
        if number is None:
            return references
        calls = references[2] == self._absolute + 1 + number
        for offset in references[0][calls].tolist():
            if 0 < offset <= len(content) - 4 and content[offset - 1] == _CALL:
                content[offset - 1 : offset + 4] = np.frombuffer(_NOP5, np.uint8)
        return references[:, ~calls]

    # --- symbols ------------------------------------------------------------------------------------------

    def _exports(self) -> dict[str, tuple[int, int]]:
        """A symbol is exported if `__ksymtab_NAME` is there (include/linux/export.h)."""
        exported = {symbol.name.removeprefix(_KSYMTAB) for _, symbol in self._file.symbols_named(_KSYMTAB)}
        if not exported:  # most modules have none
            return {}
        return {
            symbol.name: (int(self._symbol_place[number]), int(self._symbol_value[number]))
            for number, symbol in self._file.global_symbols()
            if symbol.name in exported
        }

    def _trampolines(self) -> list[tuple[int, int, int]]:
        """`(offset of the trampoline, place of its key, offset of the key from it)` of its own static
        calls."""
        keys: dict[str, tuple[int, int]] = {}
        trampolines: dict[str, tuple[int, int]] = {}
        for number, symbol in self._file.symbols_named("__SC"):
            at = (int(self._symbol_place[number]), int(self._symbol_value[number]))
            (keys if symbol.name.startswith("__SCK__") else trampolines)[symbol.name[7:]] = at
        return [
            (at, *keys[name])
            for name, (place, at) in trampolines.items()
            if place == TEXT and name in keys and keys[name][0] <= self._absolute
        ]


def _some_of_each(places: Column, end: int) -> Numbers:
    """Numbers of the first `_VOTES` references to each place before `end`."""
    order = np.argsort(places, kind="stable")
    order = order[places[order] < end]
    starts = np.searchsorted(places[order], places[order], "left")
    return order[np.arange(len(order)) - starts < _VOTES].astype(np.uint32)


def _by_kind(kinds: Column, offsets: Column, size: int) -> tuple[Column, list[int]]:
    """The order of the references by our kinds, and how many are of each. Those of other kinds, and those
    that lead out of the segment, are left out."""
    ours = _OURS[np.minimum(kinds, len(_OURS) - 1)]
    ours[offsets + _OUR_WIDTHS[ours] > size] = _NOT_OURS
    groups = [np.flatnonzero(ours == kind) for kind in range(_NOT_OURS)]
    return np.concatenate(groups), [len(group) for group in groups]


def _our_kinds() -> npt.NDArray[np.uint8]:
    """Our kinds by those of the file; `_NOT_OURS` for the others, of which the last stands for all
    beyond."""
    ours = np.full(max(WIDTHS) + 2, _NOT_OURS, np.uint8)
    for kind, width in WIDTHS.items():
        ours[kind] = next(
            number
            for number, form in enumerate(zip(IS_FAR, IS_RELATIVE, strict=True))
            if form == (width == 8, kind in RELATIVE)
        )
    return ours


_NOT_OURS = len(IS_FAR)
_OURS = _our_kinds()
_OUR_WIDTHS = np.array([*(8 if is_far else 4 for is_far in IS_FAR), 0])
