"""Names for the parts of a module, from its file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property

from hybridbridge_vol.check.modules.file_references import FileReferences
from hybridbridge_vol.check.modules.linked_module import TEXT
from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.kernel_file.module import ModuleFile

_LAST = "\U0010ffff"
"""Behind every name."""


class Names:
    """The symbols of a placed module. `references` gives what refers to what in its file."""

    def __init__(
        self, placed: PlacedModule, file: ModuleFile, references: Callable[[], FileReferences]
    ) -> None:
        self._placed = placed
        self._file = file
        self._references = references

    @cached_property
    def _functions(self) -> list[tuple[int, str]]:
        """Offsets of the symbols in the code, ascending."""
        layout = self._file.text_layout()[0]
        return sorted(
            (layout[symbol.section] + symbol.value, symbol.name)
            for symbol in self._file.symbols()
            if symbol.section in layout and symbol.name
        )

    def _function(self, offset: int) -> tuple[int, str]:
        index = bisect_right(self._functions, (offset, _LAST)) - 1
        return self._functions[index] if index >= 0 else (offset, "?")

    def function_start(self, offset: int) -> int:
        """The start of the function at an offset."""
        return self._function(offset)[0]

    def begins(self, offset: int) -> str | None:
        """The function that begins at an offset."""
        start, name = self._function(offset)
        return name if start == offset else None

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return self._references().symbols()

    def address_of(self, name: str) -> int | None:
        """Where the snapshot has a symbol; None if that is not known."""
        place = self._places.get(name)
        return None if place is None else self._placed.vaddr_of(*place)

    def describe(self, offset: int) -> str:
        """`module:function+0x10` of an offset in the code."""
        start, name = self._function(offset)
        return f"{self._placed.name}:{name}" + (f"+{offset - start:#x}" if offset > start else "")

    @cached_property
    def _variables(self) -> list[tuple[int, int, str]]:
        """Start, end and name of each variable."""
        sized = ((symbol.name, symbol.size) for symbol in self._file.symbols() if symbol.size)
        return sorted(
            (vaddr, vaddr + size, name)
            for name, size in sized
            if name in self._places
            and self._places[name][0] != TEXT
            and (vaddr := self.address_of(name)) is not None
        )

    def variable(self, vaddr: int) -> str:
        """`variable+0x10` of an address in the data; empty if no symbol is there."""
        index = bisect_right(self._variables, (vaddr, 1 << 64, "")) - 1
        if index < 0 or vaddr >= self._variables[index][1]:
            return ""
        start, _end, name = self._variables[index]
        return name + (f"+{vaddr - start:#x}" if vaddr > start else "")
