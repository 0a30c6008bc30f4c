"""Tables in a module's file that refer to its code: static branches, warnings, fix-ups.

What an entry refers to is said by its relocations.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from hybridbridge_vol.bridge.modules.locate import Resolve
from hybridbridge_vol.bridge.modules.relocated_module import Segment
from hybridbridge_vol.bridge.modules.traps import FixUp, fix_ups_of, warnings_of
from hybridbridge_vol.bridge.text.static_keys import BRANCH, ENTRY_SIZE, JumpLabels, site_flags
from hybridbridge_vol.elf_headers import SHN_UNDEF
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.units import U64

_SITE_SIZE = 5
"""Bytes of the longest branch at a site."""
_KEY_FLAGS = 3
"""The lowest bits of a key's address (include/linux/jump_label.h, JUMP_TYPE_MASK)."""


def entry_values(
    file: ModuleFile, table: int, sections: dict[int, int], resolve: Resolve
) -> Iterator[tuple[int, int]]:
    """`(offset in the table, virtual address that is referred to there)`; flags in an address's lowest bits
    are kept."""
    for item in file.relocations(table):
        symbol = file.symbol(item.symbol)
        if symbol.section == SHN_UNDEF:
            start = next(iter(resolve(symbol.name)), None)
        else:
            start = sections.get(symbol.section)
        if start is not None:
            yield item.offset, (start + symbol.value + item.addend) & U64


def jump_labels(file: ModuleFile, text: Segment, sections: dict[int, int], resolve: Resolve) -> JumpLabels:
    """The static branches (`__jump_table`); sites and targets are offsets in the code, keys virtual
    addresses."""
    table = file.section("__jump_table")
    found: list[tuple[int, int, int, int]] = []
    if table is not None:
        values = dict(entry_values(file, table.number, sections, resolve))
        for entry in range(0, table.size - ENTRY_SIZE + 1, ENTRY_SIZE):
            site, target, key = (values.get(entry + part) for part in (0, 4, 8))
            if site is not None and target is not None and key is not None:
                found += _label(text, site - text.vaddr, target - text.vaddr, key)
    found.sort()
    return JumpLabels(*(array("Q", (item[column] for item in found)) for column in range(4)))


def _label(text: Segment, site: int, target: int, key: int) -> Iterator[tuple[int, int, int, int]]:
    """One static branch as `JumpLabels` has it; none if it is not one of this code."""
    if not (0 <= site <= len(text.content) - _SITE_SIZE and 0 <= target < len(text.content)):
        return
    flags = site_flags(bytes(text.content[site : site + _SITE_SIZE]), target - site)
    if flags is not None:
        yield site, target, key & ~_KEY_FLAGS, flags | key & BRANCH


def traps(
    file: ModuleFile, text: Segment, sections: dict[int, int], resolve: Resolve
) -> tuple[frozenset[int], dict[int, FixUp]]:
    """The module's warnings and fix-ups, as `RelocatedModule` has them."""
    bugs, faults = file.section("__bug_table"), file.section("__ex_table")
    warnings: frozenset[int] = frozenset()
    fix_ups: dict[int, FixUp] = {}
    if bugs is not None:
        values = dict(entry_values(file, bugs.number, sections, resolve))
        warnings = warnings_of(bugs, values, text.content, text.vaddr)
    if faults is not None:
        fix_ups = fix_ups_of(file, faults, dict(entry_values(file, faults.number, sections, resolve)))
    return warnings, fix_ups
