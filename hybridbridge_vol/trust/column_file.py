"""The form of files that hold columns of numbers: a magic line, a checksum line, a line of JSON, the numbers.

The JSON object says what the numbers are; the checksum (CRC-32) is over all that follows it. Numbers are in
the machine's byte order: such files are caches, or go between machines of one kind.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from hybridbridge_vol.trust.files import Record

MAX_FILE = 64 << 20
"""Bytes; real ones have one million."""
MAX_HEAD = 4 << 20
"""Bytes of the JSON object."""


def pack(magic: bytes, head: Mapping[str, Any], columns: Iterable[array[int]]) -> bytes:
    """The file's bytes; `magic` ends with a newline."""
    body = b"".join([json.dumps(head).encode(), b"\n", *(column.tobytes() for column in columns)])
    return magic + b"%08x\n" % zlib.crc32(body) + body


def unpack(magic: bytes, data: bytes) -> tuple[Record, memoryview]:
    """The JSON object and the bytes of the numbers. ValueError if the file is damaged or too large."""
    if not data.startswith(magic) or len(data) > MAX_FILE:
        raise ValueError("another kind of file")
    view = memoryview(data)
    body_at = len(magic) + len(b"01234567\n")
    if int(data[len(magic) : body_at], 16) != zlib.crc32(view[body_at:]):
        raise ValueError("its checksum differs")
    end = data.find(b"\n", body_at, body_at + MAX_HEAD)
    try:
        head = json.loads(data[body_at : max(end, 0)])
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if type(head) is not dict:
        raise ValueError("no JSON object")
    return head, view[end + 1 :]


class ColumnReader:
    """Takes columns of known length off the numbers of a file, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, typecode: str, count: object) -> array[int]:
        """The next `count` numbers of a type that `array` knows. ValueError if there are not so many."""
        column = array(typecode)
        left = (len(self._data) - self._at) // column.itemsize
        if not isinstance(count, int) or not 0 <= count <= left:
            raise ValueError("a column is longer than the file")
        end = self._at + count * column.itemsize
        column.frombytes(self._data[self._at : end])
        self._at = end
        return column

    def finish(self) -> None:
        """ValueError if anything is left."""
        if self._at != len(self._data):
            raise ValueError("more numbers than the columns have")
