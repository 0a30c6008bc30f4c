"""A part of a file of /proc or /sys: of those that are windows on memory (/proc/PID/mem, pagemap, kcore),
which have no size, and of all others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.descriptors import LARGEST_READ
from hybridbridge_vol.guest.file_content import Piece, PieceKind, next_page

MAX_FAILURES = 4096
"""Pages of one window that may be missing before the rest of it is given up."""

ReadAt = Callable[[int, int], bytes]
"""(offset, size) -> up to `size` bytes. OSError, CallRolledBack."""


def window(read_at: ReadAt, offset: int, size: int) -> Iterator[Piece]:
    """The bytes in `[offset, offset + size)` of a file, in order; it may end before. A page that cannot be
    read is missing, with its reason, and no other."""
    end, careful_until, failures = offset + size, offset, 0
    while offset < end:
        limit = next_page(offset) - offset if offset < careful_until else LARGEST_READ
        wanted = min(limit, end - offset)
        try:
            data = read_at(offset, wanted)
        except (OSError, CallRolledBack) as error:
            if next_page(offset) < offset + wanted:
                careful_until = offset + wanted
                continue
            failures += 1
            reason = error.reason if isinstance(error, CallRolledBack) else os.strerror(error.errno or 0)
            if failures >= MAX_FAILURES:
                yield Piece(PieceKind.MISSING, offset, end - offset, reason=f"given up: {reason}")
                return
            yield Piece(PieceKind.MISSING, offset, wanted, reason=reason)
            offset += wanted
            continue
        if not data:
            return
        yield Piece(PieceKind.DATA, offset, len(data), data)
        offset += len(data)
