"""cat: any file of the guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from errno import EINVAL
from itertools import takewhile

from hybridbridge_vol.allowance import LONG_ANSWER_MEMORY, LONG_ANSWER_SECONDS
from hybridbridge_vol.guest.endless import MAX_FILE_SIZE
from hybridbridge_vol.guest.file_content import IncompleteFile, MissingRange, Piece, PieceKind
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import MissingRecords
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
        "from its page cache: what that lacks is left out and reported by its range, never shown as zeros. "
        "With --offset and --length only that part of each file is read: of /proc/PID/mem, say, where "
        "offsets are addresses of the process, or of /proc/PID/pagemap, which do not end."
    )
    example = "/etc/passwd"
    options = (
        Option("path", str, "a file of the guest", many=True, positional=True),
        Option("offset", int, "begin at this byte of each file, 0x... for hexadecimal"),
        Option("length", int, f"read at most so many bytes (with --offset: {MAX_FILE_SIZE} by default)"),
    )
    columns = (
        Column("LINE", "int", "line number, from 1"),
        Column("TEXT", "str", "the line, without its newline"),
    )

    seconds, memory = LONG_ANSWER_SECONDS, LONG_ANSWER_MEMORY

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        path = (Column("PATH", "str", "the file"),) if len(options["path"]) > 1 else ()
        return path + self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        paths = options["path"]
        for path in paths:
            head = (path,) if len(paths) > 1 else ()
            try:
                data, missing = _content(kernel, in_guest(path), options), None
            except IncompleteFile as error:
                data, missing = _up_to_the_first_gap(error.pieces), why(path, error)
            except MissingRecords as error:
                data, missing = error.partial, why(path, error)
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
                part = _part(options)
                whole = in_guest(path)
                pieces = kernel.files.window(whole, *part) if part else kernel.files.pieces(whole)
                for piece in pieces:
                    yield from _raw_piece(path, piece)
            except MissingRecords as error:
                yield error.partial
                yield why(path, error)
            except UNREADABLE as error:
                yield why(path, error)


def _part(options: Options) -> tuple[int, int] | None:
    """Offset and size of the part of each file that is asked for; None for the whole. OSError."""
    offset, length = options["offset"], options["length"]
    if offset is None and length is None:
        return None
    if (offset or 0) < 0 or (length or 0) < 0:
        raise OSError(EINVAL, "--offset and --length are not negative")
    return offset or 0, MAX_FILE_SIZE if length is None else length


def _content(kernel: GuestKernel, path: str, options: Options) -> bytes:
    """A file, or the part of it that is asked for. IncompleteFile, and what reading raises."""
    part = _part(options)
    if part is None:
        return kernel.files.read(path)
    pieces = list(kernel.files.window(path, *part))
    if any(piece.kind is PieceKind.MISSING for piece in pieces):
        raise IncompleteFile(path, pieces)
    return b"".join(piece.data or bytes(piece.size) for piece in pieces)


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
