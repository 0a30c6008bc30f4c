"""cat: any file of the guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from hybridbridge_vol.guest.file_content import IncompleteFile, MissingRange, Piece, PieceKind
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, in_guest, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

LARGEST_PIECE = 1 << 20
MAX_HOLE = 1 << 30
"""Bytes of a hole that are written as zeros: a sparse file may claim to be of any size."""


class Cat(Tool):
    name = "cat"
    help = "The content of a file of the guest, as far as its memory holds it"
    notes = (
        "`hb run` writes the bytes as they are (on a terminal control characters are escaped). With --format "
        "json or csv, and in Volatility, each line is a row. Files of the guest's own file systems come "
        "from its page cache: what that lacks is left out and reported by its range, never shown as zeros."
    )
    example = "/etc/passwd"
    options = (Option("path", str, "a file of the guest", many=True, positional=True),)
    columns = (
        Column("LINE", "int", "line number, from 1"),
        Column("TEXT", "str", "the line, without its newline"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        path = (Column("PATH", "str", "the file"),) if len(options["path"]) > 1 else ()
        return path + self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        paths = options["path"]
        for path in paths:
            head = (path,) if len(paths) > 1 else ()
            try:
                data, missing = kernel.files.read(in_guest(path)), None
            except IncompleteFile as error:
                data, missing = _up_to_the_first_gap(error.pieces), why(path, error)
            except UNREADABLE as error:
                if len(paths) == 1:
                    raise
                yield Row((*head, why(path, error), why(path, error)))
                continue
            lines = data.removesuffix(b"\n").split(b"\n") if data else []
            for number, line in enumerate(lines, 1):
                yield Row((*head, number, text(line)))
            if missing is not None:
                yield Row((*head, missing, missing))

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The bytes of the files, one after the other, or why one cannot be read."""
        for path in options["path"]:
            try:
                for piece in kernel.files.pieces(in_guest(path)):
                    yield from _raw_piece(path, piece)
            except UNREADABLE as error:
                yield why(path, error)


def _raw_piece(path: str, piece: Piece) -> Iterator[bytes | Unavailable]:
    if piece.kind is PieceKind.DATA:
        yield piece.data
    elif piece.kind is PieceKind.MISSING:
        yield Unavailable(f"{path}: {MissingRange(piece.offset, piece.size, piece.reason)}")
    elif piece.size > MAX_HOLE:
        yield Unavailable(f"{path}: a hole of {piece.size:,} bytes at {piece.offset:,} is not written out")
    else:
        for start in range(0, piece.size, LARGEST_PIECE):
            yield bytes(min(LARGEST_PIECE, piece.size - start))


def _up_to_the_first_gap(pieces: Sequence[Piece]) -> bytes:
    """The beginning of a file whose rest cannot be lines, because a part is missing."""
    known = takewhile(lambda piece: piece.kind is not PieceKind.MISSING and piece.size <= MAX_HOLE, pieces)
    return b"".join(piece.data or bytes(piece.size) for piece in known)


TOOL = Cat()
