"""The structures in a module's file that hold addresses of functions."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from hybridbridge_vol.check.modules.file_references import FileReferences
from hybridbridge_vol.check.modules.linked_module import DATA, LATER, RODATA, TEXT
from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.elf_headers import SHF_ALLOC, SHF_EXECINSTR
from hybridbridge_vol.kernel_file.module import ModuleFile


class FileTables:
    """See the module's text. `references` are those of the file."""

    def __init__(self, placed: PlacedModule, file: ModuleFile, references: FileReferences) -> None:
        self._placed = placed
        self._file = file
        self._references = references

    @cached_property
    def _objects(self) -> dict[int, list[tuple[int, int]]]:
        """By section: the variables in it, as ascending starts and ends."""
        found: dict[int, list[tuple[int, int]]] = {}
        for symbol in self._file.symbols():
            if symbol.size and 0 < symbol.section < len(self._file.sections):
                flags = self._file.sections[symbol.section].flags
                if flags & SHF_ALLOC and not flags & SHF_EXECINSTR:
                    found.setdefault(symbol.section, []).append((symbol.value, symbol.value + symbol.size))
        return {section: sorted(objects) for section, objects in found.items()}

    def _offset_in_object(self, section: int, offset: int) -> int | None:
        objects = self._objects.get(section, [])
        index = bisect_right(objects, (offset, 1 << 62)) - 1
        inside = index >= 0 and offset < objects[index][1]
        return offset - objects[index][0] if inside else None

    @cached_property
    def _slots(self) -> frozenset[tuple[int, int]]:
        """Function as an offset in the code, and its slot: an offset in a structure."""
        found = set()
        for section, offset, place, target in self._references.of_data():
            slot = self._offset_in_object(section, offset) if place == TEXT else None
            if slot is not None:
                found.add((target, slot))
        return frozenset(found)

    def has(self, function_vaddr: int, slot: int) -> bool:
        """Whether a structure in the file has a function of the module in a slot."""
        return (function_vaddr - self._placed.text_vaddr, slot) in self._slots

    def refers(self, name: str, other: str) -> bool:
        """Whether one variable holds the address of another, by their names."""
        found = {symbol.name: symbol for symbol in self._file.symbols() if symbol.name in (name, other)}
        if len(found) < 2:
            return False
        own, wanted = found[name], self._references.symbols().get(other)
        return any(
            section == own.section and 0 <= offset - own.value < own.size and (place, addend) == wanted
            for section, offset, place, addend in self._references.of_data()
        )

    @cached_property
    def _sections(self) -> list[tuple[int, int, int]]:
        """Start, end and number of each section of data that was found."""
        layouts = (
            (RODATA, self._file.rodata_layout()[0]),
            (LATER, self._file.later_layout()[0]),
            (DATA, self._file.data_layout()[0]),
        )
        return [
            (start + offset, start + offset + self._file.sections[section].size, section)
            for place, layout in layouts
            if (start := self._placed.vaddr_of(place, 0)) is not None
            for section, offset in layout.items()
        ]

    def slot(self, vaddr: int) -> int | None:
        """The offset, in its structure, of an address in the module's data; None if it is in none."""
        for start, end, section in self._sections:
            if start <= vaddr < end:
                return self._offset_in_object(section, vaddr - start)
        return None
