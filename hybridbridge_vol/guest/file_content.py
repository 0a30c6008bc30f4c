"""The content of a file of the guest's, as far as memory holds it: data, holes, and what is missing.

What the page cache lacks is missing, and never zeros. A hole, which the file system knows to hold no block,
reads as zeros and is complete.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from hybridbridge_vol.units import PAGE_SIZE


class PieceKind(Enum):
    """What a range of a file is."""

    DATA = "data"
    HOLE = "hole"
    MISSING = "missing"


class PhysicalRange(NamedTuple):
    """A range of a file, in bytes, and the guest-physical address of its first byte."""

    offset: int
    size: int
    paddr: int


class Piece(NamedTuple):
    """A range of a file, in bytes. `data` is its content if it is DATA, and `ranges` say where in memory it
    lies; there are none where the kernel made it up, or copied it from elsewhere. `reason` says why it is
    MISSING."""

    kind: PieceKind
    offset: int
    size: int
    data: bytes = b""
    reason: str = ""
    ranges: tuple[PhysicalRange, ...] = ()

    @property
    def end(self) -> int:
        return self.offset + self.size


class MissingRange(NamedTuple):
    """A range of a file that memory does not hold, in bytes."""

    offset: int
    size: int
    reason: str

    def __str__(self) -> str:
        return f"bytes {self.offset:,} to {self.offset + self.size - 1:,}: {self.reason}"


def missing_ranges(pieces: Iterable[Piece]) -> list[MissingRange]:
    """What is missing of a file."""
    return [
        MissingRange(piece.offset, piece.size, piece.reason)
        for piece in pieces
        if piece.kind is PieceKind.MISSING
    ]


def merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same with neighbouring holes, and neighbouring missing ranges of one reason, made one."""
    waiting: Piece | None = None
    for piece in pieces:
        if waiting is not None:
            alike = piece.kind is waiting.kind and piece.reason == waiting.reason
            if alike and piece.offset == waiting.end and piece.kind is not PieceKind.DATA:
                waiting = Piece(piece.kind, waiting.offset, waiting.size + piece.size, b"", piece.reason)
                continue
            yield waiting
        waiting = piece
    if waiting is not None:
        yield waiting


def next_page(offset: int) -> int:
    """The first offset of the page behind the one that holds `offset`."""
    return (offset | (PAGE_SIZE - 1)) + 1


class IncompleteFile(OSError):
    """A file of which memory does not hold every byte. `pieces` is all that there is, in order."""

    def __init__(self, path: str, pieces: list[Piece]) -> None:
        absent = sum(piece.size for piece in pieces if piece.kind is PieceKind.MISSING)
        super().__init__(errno.EIO, f"{absent:,} of its bytes are not in memory", path)
        self.pieces = pieces


class IncompleteDirectory(OSError):
    """A directory of which memory does not hold every entry. `names` are those up to there."""

    def __init__(self, path: str, names: list[str], reason: str) -> None:
        super().__init__(errno.EIO, f"listed in part, {len(names):,} names: {reason}", path)
        self.names = names
