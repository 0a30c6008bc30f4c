"""A file of the guest as Python's own files are: for whatever takes one that is open for reading."""

from __future__ import annotations

import errno
import io
import os

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import Files


class GuestFile(io.RawIOBase):
    """Bytes of a regular file. What memory does not hold is an OSError with EIO, never zeros; it cannot be
    used after its snapshot is closed."""

    def __init__(self, files: Files, path: str, size: int | None) -> None:
        """`size` in bytes; None if the file's size says nothing about its content."""
        super().__init__()
        self.name = path
        self._files = files
        self._content = files.read(path) if size is None else None
        self._size = len(self._content) if self._content is not None else size or 0
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"a negative position: {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._position))
        data = self._bytes(wanted) if wanted else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _bytes(self, size: int) -> bytes:
        if self._content is not None:
            return self._content[self._position : self._position + size]
        try:
            return self._files.read_range(self.name, self._position, size)
        except CallRolledBack as error:
            raise OSError(errno.EIO, error.reason, self.name) from None
