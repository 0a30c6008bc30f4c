"""Takes out of a module's file what `LinkedModule` has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.check.modules.file_references import Column, FileReferences, References
from hybridbridge_vol.check.modules.link_tables import TableReader
from hybridbridge_vol.check.modules.linked_module import (
    DATA,
    FAR,
    IS_FAR,
    IS_RELATIVE,
    LATER,
    RODATA,
    TEXT,
    LinkedModule,
    LinkedSegment,
    Numbers,
)
from hybridbridge_vol.elf_headers import SHN_UNDEF
from hybridbridge_vol.kernel_file.module import RELATIVE, WIDTHS, ModuleFile

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


class _Linker:
    """Makes the parts of one module from its file's references."""

    def __init__(self, name: str, file: ModuleFile) -> None:
        self._name = name
        self._file = file
        self._references = FileReferences(file)

    def linked(self) -> LinkedModule:
        """All of it."""
        text, rodata = self._segment(TEXT), self._segment(RODATA)
        later, data = (self._pointers(self._segment(segment), rodata) for segment in (LATER, DATA))
        own = self._file.section(_STRUCT_SECTION)
        references = self._references
        reader = TableReader(self._file, bytes(text.content), references)
        return LinkedModule(
            self._name,
            self._file.build_id,
            (text, rodata, later, data),
            references.absolute,
            list(references.imports),
            self._exports(),
            None if own is None else references.place_of(own.number, 0),
            reader.sites(self._trampolines()),
        )

    # --- segments -----------------------------------------------------------------------------------------

    def _segment(self, segment: int) -> LinkedSegment:
        content = np.zeros(self._references.sizes[segment], np.uint8)
        found = []
        starts = []
        compared = []
        for section, start in self._references.layouts[segment].items():
            one = self._file.sections[section]
            if not one.name.startswith(_COMPARED[segment]):
                continue
            content[start : start + len(one.data)] = np.frombuffer(one.data, np.uint8)
            compared += [start, start + one.size]
            found.append(self._references.of_section(section))
            starts.append(start)
        references = np.concatenate([np.zeros((4, 0), np.int64), *found], axis=1)
        references[0] += np.repeat(np.array(starts, np.int64), [each.shape[1] for each in found])
        references = self._without_tracer(references, content)
        order, counts = _by_kind(references[1], references[0], len(content))
        offsets, _kinds, places, addends = references[:, order]
        return LinkedSegment(
            content,
            np.array(compared, np.uint32),
            offsets.astype(np.uint32),
            places.astype(np.uint32),
            addends,
            np.array(counts, np.uint32),
            _some_of_each(places, self._references.absolute),
            np.array([len(content)], np.uint32),
        )

    def _pointers(self, data: LinkedSegment, rodata: LinkedSegment) -> LinkedSegment:
        """Data with only its references to code, to constants that hold references themselves, and to other
        modules and the kernel."""
        far = data.kinds()[FAR][1]
        offsets, targets, addends = data.offsets[far], data.targets[far].astype(np.int64), data.addends[far]
        symbols = self._references
        starts = np.unique(
            symbols.symbol_value[(symbols.symbol_place == RODATA) & (symbols.symbol_section > SHN_UNDEF)]
        )
        bounds = np.append(starts, len(rodata.content))
        behind = bounds[np.minimum(np.searchsorted(bounds, addends, "right"), len(bounds) - 1)]
        held = np.sort(rodata.offsets[rodata.kinds()[FAR][1]].astype(np.int64))
        first = np.append(held, _NOWHERE)[np.searchsorted(held, addends, "left")]
        wanted = (targets == TEXT) | ((targets == RODATA) & (first < behind)) | (targets > symbols.absolute)
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

    def _without_tracer(self, references: References, content: npt.NDArray[np.uint8]) -> References:
        """Without the calls of the tracer, in place of which `content` gets nops, as the loader leaves it."""
        number = self._references.imports.get(_FENTRY)
        if number is None:
            return references
        calls = references[2] == self._references.absolute + 1 + number
        opcodes = references[0][calls] - 1
        opcodes = opcodes[(opcodes >= 0) & (opcodes <= len(content) - len(_NOP5))]
        opcodes = opcodes[content[opcodes] == _CALL]
        content[opcodes[:, None] + np.arange(len(_NOP5))] = np.frombuffer(_NOP5, np.uint8)
        return references[:, ~calls]

    # --- symbols ------------------------------------------------------------------------------------------

    def _exports(self) -> dict[str, tuple[int, int]]:
        """A symbol is exported if `__ksymtab_NAME` is there (include/linux/export.h)."""
        exported = {name.removeprefix(_KSYMTAB) for name, _number in self._references.named(_KSYMTAB)}
        if not exported:  # most modules have none
            return {}
        return {
            name: self._references.location(number)
            for name, number in self._references.global_names()
            if name in exported
        }

    def _trampolines(self) -> list[tuple[int, int, int]]:
        """`(offset of the trampoline, place of its key, offset of the key from it)` of its own static
        calls."""
        keys: dict[str, tuple[int, int]] = {}
        trampolines: dict[str, tuple[int, int]] = {}
        for name, number in self._references.named("__SC"):
            kind = keys if name.startswith("__SCK__") else trampolines
            kind[name[7:]] = self._references.location(number)
        return [
            (at, *keys[name])
            for name, (place, at) in trampolines.items()
            if place == TEXT and name in keys and keys[name][0] <= self._references.absolute
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
