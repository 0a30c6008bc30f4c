"""Recognizing a module's code in the snapshot by its first page."""

from __future__ import annotations

from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.units import PAGE_SIZE

ALIKE = 0.6
"""Share of a page of code, without what the loader fills in, that must be as in the file: alternatives and
static branches change a few bytes in a hundred."""
_BEFORE_FIELD, _AFTER_FIELD = 1, 8
"""Bytes around a relocated field that may differ: the opcode before (`call` becomes a nop), the field."""
_NONE = memoryview(b"")


class FirstPage:
    """The first page of a module's code as in its file. What the loader fills in does not count."""

    def __init__(self, file: ModuleFile) -> None:
        layout, size = file.text_layout()
        self._size = min(size, PAGE_SIZE)
        expected, compared = bytearray(self._size), bytearray(self._size)
        for index, start in layout.items():
            data = file.sections[index].data[: max(0, self._size - start)]
            expected[start : start + len(data)] = data
            compared[start : start + len(data)] = b"\xff" * len(data)
        for index, start in layout.items():
            end = self._size - start + _BEFORE_FIELD
            # of each relocation the first of three words: few of them are of the first page
            table = file.relocation_tables.get(index, _NONE) if end > _BEFORE_FIELD else _NONE
            for offset in table.cast("Q")[::3].tolist():
                if offset < end:
                    first = max(start + offset - _BEFORE_FIELD, 0)
                    last = min(start + offset + _AFTER_FIELD, self._size)
                    compared[first:last] = bytes(max(last - first, 0))
        self._count = self._size - compared.count(0)
        self._expected, self._compared = (int.from_bytes(page, "little") for page in (expected, compared))

    def likeness(self, page: bytes) -> float:
        """The share, from 0 to 1, of the bytes that count which are in `page` as in the file."""
        other = int.from_bytes(page[: self._size], "little")
        differing = ((self._expected ^ other) & self._compared).to_bytes(self._size, "little")
        return (self._count - (self._size - differing.count(0))) / self._count if self._count else 0.0
