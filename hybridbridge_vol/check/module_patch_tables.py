"""The patch sites in a module's text, from the tables in its file.

A module has the same tables as the kernel, as sections; the relocations of an entry say where it leads.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from hybridbridge_vol.bridge.modules.locate import Resolve
from hybridbridge_vol.bridge.modules.relocated_module import RelocatedModule
from hybridbridge_vol.bridge.modules.tables import entry_values
from hybridbridge_vol.check.patch_tables import (
    ALTERNATIVE_SIZES,
    JUMP_ENTRY,
    PARAVIRT_ENTRY,
    Alternative,
    Branch,
    PatchTables,
    StaticCall,
)

_STATIC_CALL_ENTRY = 8
_WIDEST = 6


class _Reader:
    def __init__(self, module: RelocatedModule, resolve: Resolve) -> None:
        self._module = module
        self._resolve = resolve
        self._text = module.text

    def _values(self, section: str) -> tuple[memoryview, dict[int, int]]:
        """A table's own bytes, and its relocated fields: offset in the table to offset from the module's
        text."""
        table = self._module.file.section(section)
        if table is None:
            return memoryview(b""), {}
        values = entry_values(self._module.file, table.number, self._module.sections, self._resolve)
        return table.data, {offset: vaddr - self._text.vaddr for offset, vaddr in values}

    def _inside(self, offset: int, size: int = _WIDEST) -> bool:
        return 0 <= offset <= len(self._text.content) - size

    def sites(self, section: str) -> array[int]:
        """Tables that hold only the offsets of sites."""
        _data, values = self._values(section)
        return array("I", (place for place in values.values() if self._inside(place)))

    def alternatives(self) -> Iterator[Alternative]:
        """The length of an entry is the distance of its relocations."""
        data, values = self._values(".altinstructions")
        starts = sorted(values)[::2]
        size = starts[1] - starts[0] if len(starts) > 1 else len(data)
        lengths = ALTERNATIVE_SIZES.get(size)
        if lengths is None:
            return
        for start in starts:
            code, replacement = values[start], values.get(start + 4)
            if replacement is None or start + size > len(data):
                continue
            one = Alternative(code, data[start + lengths], replacement, data[start + lengths + 1])
            if self._inside(one.code, one.size) and self._inside(one.replacement, one.replacement_size):
                yield one

    def paravirt(self) -> Iterator[tuple[int, int]]:
        """See `PatchTables`."""
        data, values = self._values(".parainstructions")
        for start in range(0, len(data) - 9, PARAVIRT_ENTRY):
            code = values.get(start)
            if code is not None and self._inside(code):
                yield code, data[start + 9]

    def branches(self) -> Iterator[Branch]:
        """See `check.patch_tables`."""
        data, values = self._values("__jump_table")
        for start in range(0, len(data) - JUMP_ENTRY + 1, JUMP_ENTRY):
            code, target, key = (values.get(start + part) for part in (0, 4, 8))
            if code is not None and target is not None and key is not None and self._inside(code):
                yield Branch(code, 2 if self._text.content[code] in (0xEB, 0x66) else 5, target, key & ~3)

    def static_calls(self) -> Iterator[StaticCall]:
        """The key may be a trampoline's address instead (kernel/static_call_inline.c,
        `static_call_add_module`)."""
        data, values = self._values(".static_call_sites")
        for start in range(0, len(data) - _STATIC_CALL_ENTRY + 1, _STATIC_CALL_ENTRY):
            code, key = values.get(start), values.get(start + 4)
            if code is not None and key is not None and self._inside(code):
                yield StaticCall(code, key & ~3, bool(key & 1))


def module_patch_tables(module: RelocatedModule, resolve: Resolve) -> PatchTables:
    """The tables of a module. Offsets count from its text."""
    reader = _Reader(module, resolve)
    return PatchTables(
        list(reader.alternatives()),
        list(reader.paravirt()),
        list(reader.branches()),
        list(reader.static_calls()),
        [],
        reader.sites("__mcount_loc"),
        reader.sites(".return_sites"),
        reader.sites(".retpoline_sites"),
        reader.sites(".smp_locks"),
        reader.sites(".ibt_endbr_seal"),
    )


def module_call_sites(module: RelocatedModule, resolve: Resolve) -> array[int]:
    """Offsets of the direct calls of a module; see `check.patch_tables.read_call_sites`."""
    return _Reader(module, resolve).sites(".call_sites")
