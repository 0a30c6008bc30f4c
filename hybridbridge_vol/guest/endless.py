"""Reading what may not end: in a hostile image a list may be cyclic, and some files are windows on memory."""

from __future__ import annotations

import time
from collections.abc import Iterable

from hybridbridge_vol.guest.values import EndlessFile

MAX_FILE_SIZE = 64 << 20
"""Bytes of one answer: three times the largest text of /proc (kallsyms). Beyond are only windows on memory
(kcore) and cyclic lists."""
MAX_FILE_SECONDS = 20.0
"""Processor time for one answer: other work on the machine must not count. The longest regular one takes two
seconds."""
_TAINT_FACTOR = 4
"""So many times as long under taint."""


def joined(source: str, parts: Iterable[bytes], under_taint: bool) -> bytes:
    """All parts of an answer, together. EndlessFile, with what there is so far, if it exceeds
    `MAX_FILE_SIZE` or `MAX_FILE_SECONDS`."""
    found: list[bytes] = []
    size = 0
    end = time.process_time() + MAX_FILE_SECONDS * (_TAINT_FACTOR if under_taint else 1)
    for part in parts:
        found.append(part)
        size += len(part)
        if size > MAX_FILE_SIZE or time.process_time() > end:
            raise EndlessFile(source, b"".join(found))
    return b"".join(found)
