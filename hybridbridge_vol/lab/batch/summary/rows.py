"""Rows of the dataset as a table of the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hybridbridge_vol.lab.batch.summary.data import Cells
from hybridbridge_vol.toolkit.cells import utc

MOST_ROWS = 8
"""Rows of a finding that are shown; the dataset has all."""
LONGEST_CELL = 160
"""Characters of a cell that are shown; the dataset has all."""
TIMES = frozenset(("START", "WHEN"))
ADDRESSES = frozenset(("ADDRESS",))


class ShownCell(NamedTuple):
    """A cell's text, and its classes in the style sheet."""

    text: str
    style: str


class ShownRows(NamedTuple):
    """The first rows of a table, and how many more there are."""

    columns: tuple[str, ...]
    rows: tuple[tuple[ShownCell, ...], ...]
    more: int


def shown_rows(columns: Sequence[str], rows: Sequence[Cells], most: int = MOST_ROWS) -> ShownRows:
    """The cells of these columns, of the first rows."""
    cells = tuple(
        tuple(
            ShownCell(shown(column, row.get(column)), "when raw" if column in TIMES else "raw")
            for column in columns
        )
        for row in rows[:most]
    )
    return ShownRows(tuple(columns), cells, max(len(rows) - most, 0))


def shown(column: str, value: object) -> str:
    """A cell of the dataset as text: times in UTC, addresses in hexadecimal; empty where there is nothing."""
    if value is None:
        return ""
    if column in TIMES and isinstance(value, float):
        return utc(value)
    if column in ADDRESSES and isinstance(value, int):
        return f"{value:#x}"
    text = str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
