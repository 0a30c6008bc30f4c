"""Switching the log of copies on for one call, and reading what it noted (`bridge.text.copy_log`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.user_memory import LOG_AT, USER_VADDR
from hybridbridge_vol.bridge.text.copy_log import HEADER, HEADER_ROOM, MOST_RECORDS, RECORD

_FIRST = USER_VADDR + LOG_AT + HEADER_ROOM
_END = _FIRST + MOST_RECORDS * RECORD.size


class CopyLog:
    """The log of one caller. It is off outside of `switched_on`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @contextlib.contextmanager
    def switched_on(self) -> Iterator[None]:
        """Meanwhile nothing is copied to readers of files by the twin's code, and `records` grows."""
        self._caller.put(HEADER.pack(_FIRST, _END), LOG_AT)
        try:
            yield
        finally:
            following, _end = HEADER.unpack(self._caller.get(LOG_AT, HEADER.size))
            self._used = following - _FIRST if _FIRST <= following <= _END else 0
            self._caller.put(bytes(HEADER.size), LOG_AT)

    def records(self) -> list[tuple[int, int]]:
        """`(virtual address, size)` of each copy while the log was last on, in their order. Both are what the
        kernel's code made of the image's data: nothing is known of them."""
        return list(RECORD.iter_unpack(self._caller.get(LOG_AT + HEADER_ROOM, self._used & -RECORD.size)))
