"""Many differences of one kind as one line of a table: those of one module, or of the kernel, whose cause is
the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Row

MOST_ALIKE = 5
"""Rows that are shown one by one; a table of more is not read."""
_OFFSET = re.compile(r"\+0x[0-9a-f]+")
_KERNEL = "the kernel"
_Key = tuple[Cell, str, str]


def grouped(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of `check`, where more than `MOST_ALIKE` have the same kind, the same owner and lead to the
    same module or region, the first of them, which says how many follow. The order is that of the first
    ones."""
    groups: dict[_Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(_key(row), []).append(row)
    for (_what, owner, _cause), group in groups.items():
        if len(group) <= MOST_ALIKE:
            yield from group
            continue
        first, rest = group[0], len(group) - 1
        what, vaddr, offset, symbol, expected, found, leads = first.cells
        note = f"{symbol} and {rest} more in {owner}: see --format json"
        yield first._replace(cells=(what, vaddr, offset, note, expected, found, leads))


def _key(row: Row) -> _Key:
    what, _vaddr, _offset, symbol, _expected, _found, leads = row.cells
    owner, colon, _name = str(symbol).partition(":")
    words = leads.reason if isinstance(leads, Unavailable) else str(leads or "")
    cause = _OFFSET.sub("", words)
    is_symbol = bool(cause) and " " not in cause
    return what, f"module {owner}" if colon else _KERNEL, _KERNEL if is_symbol else cause
