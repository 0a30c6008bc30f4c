"""Rows of one cell as the text that they are the lines of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row


def as_lines(rows: Iterable[Row]) -> Iterator[bytes | Unavailable]:
    """Each row's cell and a newline; a cell that could not be read as it is."""
    for row in rows:
        cell = row.cells[0]
        yield cell if isinstance(cell, Unavailable) else f"{cell}\n".encode("utf-8", "surrogateescape")
