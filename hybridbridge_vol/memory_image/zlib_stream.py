"""Reading anywhere in a zlib stream: it is unpacked once, and the state of the decompressor is kept every few
MiB to go on from."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from hybridbridge_vol.memory_image.image_file import Source

FIRST_SPACING = 1 << 20
"""Bytes of unpacked data between two states at first."""
MAX_STATES = 1024
"""States kept: with LiME's window of 2 KiB some 10 MiB, with the largest one 40 MiB. When there are more,
every other one is dropped, and they lie twice as far apart."""
MAX_UNPACKED = 1 << 40
"""Unpacking ends there: 1 TiB, which a crafted file of 1 GiB can claim to hold."""
_IN, _OUT = 1 << 18, 1 << 20
_CACHED_SPANS = 8


class _State(NamedTuple):
    """A decompressor that has given `unpacked` bytes and goes on at the file offset `offset`."""

    offset: int
    unpacked: int
    decompressor: Any  # zlib's type has no public name

    def ahead(self) -> _State:
        """The same, to be used up."""
        return _State(self.offset, self.unpacked, self.decompressor.copy())


class ZlibStream:
    """The unpacked bytes of a zlib stream that is a whole file. `size`: how many there are, up to where the
    stream ends, is cut or is damaged."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._states = [_State(0, 0, zlib.decompressobj())]
        self.size = self._index()
        self._starts = [state.unpacked for state in self._states]
        self._span = lru_cache(_CACHED_SPANS)(self._unpack_span)

    def _index(self) -> int:
        spacing = FIRST_SPACING
        reached = 0

        def note(state: _State) -> bool:
            nonlocal spacing, reached
            reached = state.unpacked
            if reached - self._states[-1].unpacked >= spacing:
                self._states.append(state.ahead())
            if len(self._states) > MAX_STATES:
                self._states = self._states[::2]
                spacing *= 2
            if self._source.progress:
                self._source.progress(state.offset / self._source.size, "unpacking the zlib stream")
            return reached < MAX_UNPACKED

        self._run(self._states[0].ahead(), lambda _data: None, note)
        return reached

    def _run(self, state: _State, take: Callable[[bytes], None], goes_on: Callable[[_State], bool]) -> None:
        """Unpack from a state on, until the stream ends or `goes_on` says no."""
        decompressor, offset, unpacked = state.decompressor, state.offset, state.unpacked
        while not decompressor.eof:
            packed = self._source.read_at(offset, _IN)
            if not packed:
                return
            try:
                data = decompressor.decompress(packed, _OUT)
            except zlib.error:
                return
            offset += len(packed) - len(decompressor.unconsumed_tail)
            unpacked += len(data)
            take(data)
            if not goes_on(_State(offset, unpacked, decompressor)):
                return

    def _unpack_span(self, index: int) -> bytes:
        """The bytes from one state to the next."""
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self.size
        parts: list[bytes] = []
        self._run(self._states[index].ahead(), parts.append, lambda state: state.unpacked < end)
        return b"".join(parts)[: end - self._starts[index]]

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` unpacked bytes from an offset on; fewer at the end."""
        parts = []
        end = min(offset + size, self.size)
        while 0 <= offset < end:
            index = bisect_right(self._starts, offset) - 1
            part = self._span(index)[offset - self._starts[index] :][: end - offset]
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
