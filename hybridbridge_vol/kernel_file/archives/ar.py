"""The ar archive around the parts of a `.deb` (deb(5))."""

from __future__ import annotations

import io
from typing import IO

from hybridbridge_vol.kernel_file.archives.streams import Slice, number

AR_MAGIC = b"!<arch>\n"
_HEADER_SIZE = 60


def ar_member(stream: IO[bytes], prefix: str) -> Slice | None:
    """The first member whose name begins with `prefix`; None if there is none."""
    stream.seek(len(AR_MAGIC))
    while len(header := stream.read(_HEADER_SIZE)) == _HEADER_SIZE:
        name = header[:16].decode("latin-1")
        size = number(header[48:58], 10)
        if name.startswith(prefix):
            return Slice(stream, stream.tell(), size)
        stream.seek(size + size % 2, io.SEEK_CUR)
    return None
