"""The tables of a module's file that say where its code is rewritten.

A module has the same tables as the kernel, as sections; the relocations of an entry say where it leads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridbridge_vol.check.modules.file_references import Column, FileReferences
from hybridbridge_vol.check.modules.linked_module import TEXT, Numbers, Sites
from hybridbridge_vol.check.patch_tables import ALTERNATIVE_SIZES, JUMP_ENTRY, PARAVIRT_ENTRY
from hybridbridge_vol.kernel_file.module import ModuleFile

_STATIC_CALL_ENTRY = 8
_SITE_SIZE = 5
"""Bytes of a site."""
_SIZES = {".smp_locks": 1, ".ibt_endbr_seal": 4}
_SHORT_JUMP, _SHORT_NOP = 0xEB, 0x66
_FLAGS = 3
"""The lowest bits of a key's address."""
_NONE = np.zeros(0, np.int64)


class TableReader:
    """Reads them; offsets are those in the code, `text`."""

    def __init__(self, file: ModuleFile, text: bytes, references: FileReferences) -> None:
        self._file = file
        self._text = text
        self._references = references

    def sites(self, trampolines: list[tuple[int, int, int]]) -> Sites:
        """All tables; `trampolines` are static calls besides those in the table."""
        calls = self._static_calls() + [(at, 1, place, key) for at, place, key in trampolines]
        return Sites(
            _flat(self._alternatives()),
            _flat(self._paravirt()),
            _flat(self._branches()),
            _flat([call[:3] for call in calls]),
            np.array([call[3] for call in calls], np.int64),
            *(
                self._plain(name)
                for name in (
                    "__mcount_loc", ".return_sites", ".retpoline_sites", ".smp_locks", ".ibt_endbr_seal",
                    ".call_sites", ".cfi_sites",
                )
            ),
        )  # fmt: skip

    def _table(self, name: str) -> tuple[memoryview, Column, Column, Column]:
        """A table's own bytes; of its references the offsets, and the places and offsets they lead to."""
        section = self._file.section(name)
        if section is None:
            return memoryview(b""), _NONE, _NONE, _NONE
        offsets, _kinds, places, values = self._references.of_section(section.number)
        return section.data, offsets, places, values

    def _in_text(self, name: str) -> tuple[memoryview, dict[int, int]]:
        """A table's own bytes, and by offset in it the offset in the code that is referred to there."""
        data, offsets, places, values = self._table(name)
        here = places == TEXT
        return data, dict(zip(offsets[here].tolist(), values[here].tolist(), strict=True))

    def _inside(self, offset: int, size: int = _SITE_SIZE) -> bool:
        return 0 <= offset <= len(self._text) - size

    def _plain(self, name: str) -> Numbers:
        """Tables that hold only the offsets of sites."""
        _data, _fields, places, values = self._table(name)
        here = (places == TEXT) & (values >= 0) & (values <= len(self._text) - _SIZES.get(name, _SITE_SIZE))
        offsets: Numbers = values[here].astype(np.uint32)
        return offsets

    def _alternatives(self) -> list[tuple[int, int, int, int]]:
        """The length of an entry is the distance of its relocations."""
        data, offsets, _places, _values = self._table(".altinstructions")
        starts = np.unique(offsets)[::2].tolist()
        size = starts[1] - starts[0] if len(starts) > 1 else len(data)
        lengths = ALTERNATIVE_SIZES.get(size)
        if lengths is None:
            return []
        values = self._in_text(".altinstructions")[1]
        found = []
        for start in starts:
            code, replacement = values.get(start), values.get(start + 4)
            if code is None or replacement is None or start + size > len(data):
                continue
            replaced, with_bytes = data[start + lengths], data[start + lengths + 1]
            if self._inside(code, replaced) and self._inside(replacement, with_bytes):
                found.append((code, replaced, replacement, with_bytes))
        return found

    def _paravirt(self) -> list[tuple[int, int]]:
        data, values = self._in_text(".parainstructions")
        return [
            (values[start], data[start + 9])
            for start in range(0, len(data) - 9, PARAVIRT_ENTRY)
            if start in values and self._inside(values[start])
        ]

    def _branches(self) -> list[tuple[int, int, int]]:
        """What the key says is not compared, so its place does not matter."""
        data, values = self._in_text("__jump_table")
        found = []
        for start in range(0, len(data) - JUMP_ENTRY + 1, JUMP_ENTRY):
            code, target = values.get(start), values.get(start + 4)
            if code is not None and target is not None and self._inside(code):
                size = 2 if self._text[code] in (_SHORT_JUMP, _SHORT_NOP) else 5
                found.append((code, size, target))
        return found

    def _static_calls(self) -> list[tuple[int, int, int, int]]:
        """`(code, tail, place of the key, its offset from there)`. The key may be a trampoline's address
        instead (kernel/static_call_inline.c, `static_call_add_module`)."""
        data, offsets, places, values = self._table(".static_call_sites")
        rows = dict(zip(offsets.tolist(), zip(places.tolist(), values.tolist(), strict=True), strict=True))
        found = []
        for start in range(0, len(data) - _STATIC_CALL_ENTRY + 1, _STATIC_CALL_ENTRY):
            code, key = rows.get(start), rows.get(start + 4)
            if code is None or key is None or code[0] != TEXT or not self._inside(code[1]):
                continue
            found.append((code[1], key[1] & 1, key[0], key[1] & ~_FLAGS))
        return found


def _flat(rows: Sequence[tuple[int, ...]]) -> Numbers:
    return np.array(rows, np.int64).reshape(-1).astype(np.uint32)
