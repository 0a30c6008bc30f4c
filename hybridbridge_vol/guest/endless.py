"""Reading what may not end: in a hostile image a list may be cyclic, and some files are windows on memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.values import EndlessFile

MAX_FILE_SIZE = 64 << 20
"""Bytes of one answer: three times the largest text of /proc (kallsyms). Beyond are only windows on memory
(kcore) and cyclic lists."""
MAX_FILE_SECONDS = 20.0
"""Processor time for one answer: other work on the machine must not count. The longest regular one takes two
seconds."""
LONG_SECONDS = 2.0
"""After so long, and twice as long, and so on, an answer is looked at: does it repeat itself? And the least
time for one answer after others that did not end."""
_TAINT_FACTOR = 4
"""So many times as long under taint."""
_LEAST_ROUND, _ROUNDS = 32, 3
"""Bytes that a cyclic list gives before it is back at its beginning, at the least: a line, or a message.
Shorter ones are numbers of a table that are all the same. And how often they are seen."""
_TAIL = 512
"""Bytes at the end of an answer that are looked for before."""
MAX_KERNEL_ENTRIES = 1 << 20
"""Names in one directory of /proc and /sys: as many as a process may have descriptors (sysctl_nr_open,
fs/file.c), which are the most of one kind. More are a forged table of them."""


class Patience:
    """How long one session waits for the end of an answer: half as long after each that had none, since the
    tools ask for the same files, but not less than `LONG_SECONDS`."""

    def __init__(self, under_taint: bool = False) -> None:
        self._factor = _TAINT_FACTOR if under_taint else 1
        self._part = 1.0

    @property
    def seconds(self) -> float:
        """Processor time for one answer."""
        return max(MAX_FILE_SECONDS * self._part, min(LONG_SECONDS, MAX_FILE_SECONDS)) * self._factor

    @property
    def look_after(self) -> float:
        """When it is looked at for the first time."""
        return LONG_SECONDS * self._factor

    def lost(self) -> None:
        """An answer did not end."""
        self._part /= 2


def bounded_entries(
    path: str, entries: Callable[[], list[tuple[int, str]]], patience: Patience
) -> list[tuple[int, str]]:
    """All `(position, name)` of a directory of /proc or /sys; `entries` gives the next, none at the end.
    IncompleteDirectory, with what there is so far, each name once, if there are more than
    `MAX_KERNEL_ENTRIES`, if they take too long, or if one part has only names that were there before: a table
    that leads back into itself."""
    found: list[tuple[int, str]] = []
    names: dict[str, None] = {}
    end = time.process_time() + patience.seconds
    while part := entries():
        found += part
        before = len(names)
        names.update((name, None) for _position, name in part)
        last = part[-1][1]
        if len(names) == before:
            raise _incomplete(path, names, f"it leads back into itself: {last!r} is there again")
        if len(found) > MAX_KERNEL_ENTRIES or time.process_time() > end:
            patience.lost()
            raise _incomplete(path, names, "it does not end")
    return found


def _incomplete(path: str, names: Iterable[str], reason: str) -> IncompleteDirectory:
    return IncompleteDirectory(path, [name for name in names if name not in (".", "..")], reason)


def joined(source: str, parts: Iterable[bytes], patience: Patience) -> bytes:
    """All parts of an answer, together. EndlessFile, with what there is so far, if it is longer than
    `MAX_FILE_SIZE`, takes too long, or repeats itself."""
    found: list[bytes] = []
    size, begun, look_after = 0, time.process_time(), patience.look_after
    for part in parts:
        found.append(part)
        size += len(part)
        seconds = time.process_time() - begun
        enough = None
        if seconds > look_after:
            look_after *= 2
            enough = two_rounds(b"".join(found))
        if enough is not None or size > MAX_FILE_SIZE or seconds > patience.seconds:
            patience.lost()
            raise EndlessFile(source, b"".join(_first(found, enough)))
    return b"".join(found)


def _first(parts: list[bytes], size: int | None) -> Iterator[bytes]:
    """So many of the first parts as have that many bytes: each ends with a whole line or message."""
    total = 0
    for part in parts:
        if size is None or total < size:
            yield part
        total += len(part)


def two_rounds(data: bytes) -> int | None:
    """How many bytes a cyclic list gives until it has been round twice; None if `data` does not end with the
    same bytes three times, each time at least as many as one line or message has."""
    size = len(data)
    before = data.rfind(data[-_TAIL:], 0, size - 1)
    period = size - _TAIL - before
    if before < 0 or period < _LEAST_ROUND or not _repeats(data, period, (_ROUNDS - 1) * period):
        return None
    least, most = (_ROUNDS - 1) * period, size - period
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if _repeats(data, period, middle) else (least, middle - 1)
    return size - least + period


def _repeats(data: bytes, period: int, size: int) -> bool:
    """Whether each of the last `size` bytes is as the one a period before."""
    start = len(data) - size
    return start >= period and data[start:] == data[start - period : len(data) - period]
