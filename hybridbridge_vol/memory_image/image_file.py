"""A file that may be a memory image, before anybody knows its format."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.ranges import Range
from hybridbridge_vol.units import Progress

HEAD_SIZE = 4096
"""Bytes at a file's start in which every format has its magic."""

MAX_OFFSET = 1 << 46
"""File offsets that are read; a header that leads further is damaged."""

ReadAt = Callable[[int, int], bytes]
"""(file offset, size) -> bytes; fewer at the end of the file, none where no file can have any."""


class Source(NamedTuple):
    """Bytes with headers to parse: a file's own, or those that a flattened file is made up of.

    `name` is for messages. `size` in bytes.
    """

    name: str
    size: int
    read_at: ReadAt
    progress: Progress | None = None


class ImageFile:
    """An opened regular file. Whoever opens it closes it, unless a PhysicalImage was made of it."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        """ImageError if `path` is not a regular file with something in it."""
        self.path = path
        self._fd = _opened(path)
        try:
            size = _checked_size(path, self._fd)
            self.head = os.pread(self._fd, HEAD_SIZE, 0)
        except OSError as error:
            self.close()
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
        except BaseException:
            self.close()
            raise
        self.source = Source(str(path), size, self._read_at, progress)

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self.source.size

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._fd

    def _read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset) if 0 <= offset <= MAX_OFFSET else b""

    def extents(self) -> Iterator[Range]:
        """The parts of a sparse file that hold data."""
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self._fd, end, os.SEEK_DATA)
                end = os.lseek(self._fd, start, os.SEEK_HOLE)
            except OSError:  # nothing but a hole to the end
                return
            yield start, end - start

    def close(self) -> None:
        """Close the file; again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _opened(path: Path) -> int:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = "does not exist" if error.errno == errno.ENOENT else f"cannot be opened ({error.strerror})"
        raise ImageError(f"{path}: {reason}") from None


def _checked_size(path: Path, fd: int) -> int:
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        raise ImageError(f"{path}: a directory; give the memory image in it")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{path}: not a regular file; copy the memory to a file first")
    if info.st_size == 0:
        raise ImageError(f"{path}: empty")
    return info.st_size
