"""A recovered file on its way to the output: a sparse temporary file, its hash, and what is missing of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.guest.file_content import MissingRange, PhysicalRange, Piece, PieceKind
from hybridbridge_vol.workflow.recover.guest_disk import DiskRange

MAX_HASHED_HOLES = 1 << 32
"""Bytes of holes that are hashed as the zeros they are: beyond, a sparse file's hash is that of its data."""
_ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class Segment:
    """A range of bytes that was recovered."""

    offset: int
    size: int


@dataclass(frozen=True)
class RecoveredContent:
    """`file`: the temporary file with the segments at their offsets. `pages`: where in the guest's memory
    they were. Sizes in bytes."""

    file: Path
    size: int
    segments: list[Segment]
    missing: list[MissingRange]
    on_disk: list[DiskRange]
    pages: list[PhysicalRange]
    sha256: str

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def recovered_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)


MissingFiller = Callable[[MissingRange], tuple[list[DiskRange], list[tuple[int, bytes]]]]
"""Where a missing range lies on its disk, and what of it is known from there: `(offset, bytes)`."""


def spool(pieces: Iterable[Piece], folder: Path, fill: MissingFiller) -> RecoveredContent:
    """Write the pieces of a file into a temporary file in `folder`, which is the caller's to remove."""
    handle, name = tempfile.mkstemp(prefix=".recovering-", dir=folder)
    digest = hashlib.sha256()
    segments: list[Segment] = []
    missing: list[MissingRange] = []
    on_disk: list[DiskRange] = []
    pages: list[PhysicalRange] = []
    size = hashed_holes = 0

    def store(offset: int, data: bytes) -> None:
        os.pwrite(handle, data, offset)
        digest.update(data)
        if segments and segments[-1].offset + segments[-1].size == offset:
            segments[-1] = Segment(segments[-1].offset, segments[-1].size + len(data))
        else:
            segments.append(Segment(offset, len(data)))

    try:
        for piece in pieces:
            size = piece.end
            if piece.kind is PieceKind.DATA:
                store(piece.offset, piece.data)
                pages += piece.ranges
            elif piece.kind is PieceKind.HOLE:
                hashed_holes += piece.size
                if hashed_holes <= MAX_HASHED_HOLES:
                    _hash_zeros(digest.update, piece.size)
            else:
                absent = MissingRange(piece.offset, piece.size, piece.reason)
                places, known = fill(absent)
                on_disk += places
                for offset, data in known:
                    store(offset, data)
                missing += without_ranges(absent, ((offset, len(data)) for offset, data in known))
        with contextlib.suppress(OSError):  # a file system may not take a sparse file of any size
            os.ftruncate(handle, size)
    except BaseException:
        os.unlink(name)
        raise
    finally:
        os.close(handle)
    return RecoveredContent(Path(name), size, segments, missing, on_disk, pages, digest.hexdigest())


def without_ranges(absent: MissingRange, known: Iterable[tuple[int, int]]) -> list[MissingRange]:
    """What is left of a missing range when these ranges, `(offset, size)` in ascending order, are known."""
    left, start, end = [], absent.offset, absent.offset + absent.size
    for offset, size in known:
        if offset > start:
            left.append(MissingRange(start, offset - start, absent.reason))
        start = max(start, offset + size)
    if start < end:
        left.append(MissingRange(start, end - start, absent.reason))
    return left


def _hash_zeros(update: Callable[[bytes], None], size: int) -> None:
    while size:
        step = min(size, len(_ZEROS))
        update(_ZEROS[:step])
        size -= step
