"""Reading what may not end: in a hostile image a list may be cyclic, and some files are windows on memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.values import EndlessFile

MAX_FILE_SIZE = 64 << 20
"""Bytes of one answer: three times the largest text of /proc (kallsyms). Beyond are only windows on memory
(kcore) and cyclic lists."""
MAX_FILE_SECONDS = 20.0
"""Processor time for one answer: other work on the machine must not count. The longest regular one takes two
seconds."""
_TAINT_FACTOR = 4
"""So many times as long under taint."""


MAX_KERNEL_ENTRIES = 1 << 20
"""Names in one directory of /proc and /sys: as many as a process may have descriptors (sysctl_nr_open,
fs/file.c), which are the most of one kind. More are a forged table of them."""


def bounded_entries(
    path: str, entries: Callable[[], list[tuple[int, str]]], under_taint: bool
) -> list[tuple[int, str]]:
    """All `(position, name)` of a directory of /proc or /sys; `entries` gives the next, none at the end.
    IncompleteDirectory, with what there is so far, if there are more than `MAX_KERNEL_ENTRIES`, or if they
    take longer than `MAX_FILE_SECONDS`."""
    found: list[tuple[int, str]] = []
    end = _end(under_taint)
    while part := entries():
        found += part
        if len(found) > MAX_KERNEL_ENTRIES or time.process_time() > end:
            names = [name for _position, name in found if name not in (".", "..")]
            raise IncompleteDirectory(path, names, "it does not end")
    return found


def _end(under_taint: bool) -> float:
    return time.process_time() + MAX_FILE_SECONDS * (_TAINT_FACTOR if under_taint else 1)


def joined(source: str, parts: Iterable[bytes], under_taint: bool) -> bytes:
    """All parts of an answer, together. EndlessFile, with what there is so far, if it exceeds
    `MAX_FILE_SIZE` or `MAX_FILE_SECONDS`."""
    found: list[bytes] = []
    size = 0
    end = _end(under_taint)
    for part in parts:
        found.append(part)
        size += len(part)
        if size > MAX_FILE_SIZE or time.process_time() > end:
            raise EndlessFile(source, b"".join(found))
    return b"".join(found)
