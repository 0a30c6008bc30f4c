"""What a module's own tables say of exceptions in its code: which are warnings, and where to go on after a
fault.

A module has the tables that the kernel has, as sections; the relocations of an entry say where it leads. The
trusted kernel does not know the module, so its faults are fixed up here, as far as modules have such kinds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from hybridbridge_vol.bridge.text.ud1 import BUGFLAG_WARNING, UD2
from hybridbridge_vol.kernel_file.module import ModuleFile, Section
from hybridbridge_vol.machine.registers import GENERAL_REGISTERS
from hybridbridge_vol.units import U64

_BUG_SIZES = (8, 12, 16)
_EX_SIZE = 12  # struct exception_table_entry: three 32-bit words since 4.6
# arch/x86/include/asm/extable_fixup_types.h, since 5.16; before, the third word leads to a function
_EX_DEFAULT, _EX_UACCESS, _EX_IMMEDIATE = 1, 3, 17
_HANDLERS = {"ex_handler_default": _EX_DEFAULT, "ex_handler_uaccess": _EX_UACCESS}

Values = Mapping[int, int]
"""Offset in a table to the virtual address that the field there refers to."""


class FixUp(NamedTuple):
    """Go on at `vaddr`, with `value` in `register` if one is named."""

    vaddr: int
    register: str = ""
    value: int = 0


def warnings_of(table: Section, values: Values, code: bytes | bytearray, code_vaddr: int) -> frozenset[int]:
    """Virtual addresses of the `ud2` of every WARN of a module (`__bug_table`) in its `code`.

    The length of an entry depends on the kernel (see `kernel_tables.warning_sites`): it is the one by which
    most entries begin with an address in the code.
    """
    inside = range(code_vaddr, code_vaddr + len(code))
    best: tuple[int, int, list[int]] = (0, 0, [])
    for size in _BUG_SIZES:
        starts = range(0, table.size - size + 1, size)
        entries = [start for start in starts if values.get(start, 0) in inside]
        best = max(best, (len(entries), size, entries))
    _count, size, entries = best
    sites = (values[start] for start in entries if table.data[start + size - 2] & BUGFLAG_WARNING)
    return frozenset(site for site in sites if code[site - code_vaddr :][: len(UD2)] == UD2)


def fix_ups_of(file: ModuleFile, table: Section, values: Values) -> dict[int, FixUp]:
    """The fix-ups of a module (`__ex_table`), by the virtual address of the instruction. Other kinds (for
    model-specific registers, for the FPU) are left out: a call that needs one ends there."""
    handlers = {
        item.offset: _HANDLERS.get(file.symbol(item.symbol).name, 0)
        for item in file.relocations(table.number)
    }
    found = {}
    for entry in range(0, table.size - _EX_SIZE + 1, _EX_SIZE):
        instruction, target = values.get(entry), values.get(entry + 4)
        if instruction is None or target is None:
            continue
        (data,) = struct.unpack_from("<i", table.data, entry + 8)
        kind = handlers.get(entry + 8, data & 0xFF)
        if kind in (_EX_DEFAULT, _EX_UACCESS):
            found[instruction] = FixUp(target)
        elif kind == _EX_IMMEDIATE:
            found[instruction] = FixUp(target, GENERAL_REGISTERS[data >> 8 & 0xF], data >> 16 & U64)
    return found
