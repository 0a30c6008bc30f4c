"""Names for the parts of a module, from its file."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.kernel_file.module import ModuleFile

_LAST = "\U0010ffff"
"""Behind every name."""


class Names:
    """The symbols of a placed module."""

    def __init__(self, placed: PlacedModule, file: ModuleFile) -> None:
        self._placed = placed
        self._file = file

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

    def describe(self, offset: int) -> str:
        """`module:function+0x10` of an offset in the code."""
        start, name = self._function(offset)
        return f"{self._placed.name}:{name}" + (f"+{offset - start:#x}" if offset > start else "")

    def variable(self, vaddr: int) -> str:
        """`variable+0x10` of an address in the data; empty if no symbol is there."""
        for layout, place in (
            (self._file.rodata_layout()[0], 1),
            (self._file.later_layout()[0], 2),
            (self._file.data_layout()[0], 3),
        ):
            start = self._placed.vaddr_of(place, 0)
            for symbol in self._file.symbols() if start is not None else ():
                if symbol.section in layout and symbol.size:
                    distance = vaddr - (start or 0) - layout[symbol.section] - symbol.value
                    if 0 <= distance < symbol.size:
                        return symbol.name + (f"+{distance:#x}" if distance else "")
        return ""
