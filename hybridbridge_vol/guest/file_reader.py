"""Reading an open file of the guest's file systems: its attributes, and its content piece by piece."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from hybridbridge_vol.errors import BootError, CallRolledBack
from hybridbridge_vol.guest.descriptors import LARGEST_READ, OpenFile
from hybridbridge_vol.guest.endless import MAX_FILE_SIZE
from hybridbridge_vol.guest.file_attributes import (
    OF_DESCRIPTOR,
    STATX_ALL,
    STATX_SIZE,
    FileAttributes,
    parse_statx,
)
from hybridbridge_vol.guest.file_content import Piece, PieceKind, merged, next_page
from hybridbridge_vol.guest.file_extents import FS_IOC_FIEMAP, Extent, parse_extents, request
from hybridbridge_vol.guest.named_pages import Gap, NamedPages
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.windows import window
from hybridbridge_vol.units import PAGE_SIZE

_LONGEST_LINK = 4096
STATFS_SIZE = 120
"""Bytes of `struct statfs` (include/uapi/asm-generic/statfs.h)."""
_SEEK_DATA, _SEEK_HOLE = 3, 4
MAX_ROLLBACKS = 64
MAX_LOST_SECONDS = 20.0
"""Calls about one file that may end badly before the rest of it is given up, and the processor time of them:
an endless one takes seconds."""
MAX_GAPS = 1 << 16
"""Gaps of one file between pages that are there: more than files have, and a size may be forged."""
MAX_EXTENTS = 1 << 16
"""Of one file: a map of more is cyclic, or is cut."""
_EXTENTS_AT_ONCE = 256
_WAITS = "folio_wait_bit_common"
"""Who waits there for a page halts: see the policy, "page cache"."""
_ABSENT = {
    errno.ENOMEM: "not in the page cache",
    errno.EIO: "not in the page cache",
    errno.EAGAIN: "locked at the capture",
    errno.EINTR: "locked at the capture",
}
"""What the errors of a read mean for a page: see the policy, "page cache"."""

Opener = Callable[[], AbstractContextManager[OpenFile]]
"""Opens the file: again, where a call that was rolled back has closed it."""


class FileReader:
    """Works on files that others have opened."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy
        self._named = NamedPages(proxy)
        self._has_cachestat = True

    def attributes(self, file: OpenFile) -> FileAttributes:
        """statx(2) of an open file, by the twin's code."""
        return parse_statx(self.statx(file))

    def statx(self, file: OpenFile) -> bytes:
        """The same as the kernel writes it: a `struct statx`."""
        name, buffer = self._proxy.put_path(""), self._proxy.buffer()
        self._proxy.checked(
            file.path, "statx", file.number, name, OF_DESCRIPTOR, STATX_ALL, buffer, side="twin"
        )
        return self._proxy.answer(f"lstat {file.path}", STATX_SIZE)

    def statfs(self, file: OpenFile) -> bytes:
        """fstatfs(2) of an open file, by the twin's code: a `struct statfs`."""
        self._proxy.checked(file.path, "fstatfs", file.number, self._proxy.buffer(), side="twin")
        return self._proxy.answer(f"statfs {file.path}", STATFS_SIZE)

    def link_target(self, file: OpenFile) -> str:
        """readlink(2) of a symbolic link that is open by O_PATH."""
        name, buffer = self._proxy.put_path(""), self._proxy.buffer()
        count = self._proxy.checked(
            file.path, "readlinkat", file.number, name, buffer, _LONGEST_LINK, side="twin"
        )
        return os.fsdecode(self._proxy.answer(f"readlink {file.path}", min(count, _LONGEST_LINK)))

    def cached_bytes(self, file: OpenFile, size: int) -> int | None:
        """How many of a file's first `size` bytes are in the page cache, in whole pages: cachestat(2), which
        Linux has from 6.5; None before. Of a file of a stacked file system (overlay) it counts none."""
        if not self._has_cachestat:
            return None
        asked = struct.pack("<QQ", 0, size)
        range_vaddr, buffer = self._proxy.caller.put(asked, 0), self._proxy.buffer()
        try:
            answer = self._proxy.raw(
                "cachestat", file.number, range_vaddr, buffer, 0, side="twin", label=f"cachestat {file.path}"
            )
        except BootError:
            self._has_cachestat = False
            return None
        if answer < 0:
            return None
        pages = int.from_bytes(self._proxy.answer(f"cachestat {file.path}", 8), "little")
        return min(pages * PAGE_SIZE, size)

    def read_range(self, file: OpenFile, offset: int, size: int) -> bytes:
        """Bytes of an open file, holes as zeros; fewer at its end. OSError EIO if any of them is missing."""
        end = min(offset + size, self.attributes(file).size)
        parts = []
        for piece in self._readable_pieces(file, offset, end):
            if piece.kind is PieceKind.MISSING:
                raise OSError(errno.EIO, piece.reason, file.path)
            parts.append(piece.data or bytes(piece.size))
        return b"".join(parts)

    def extents(self, file: OpenFile, size: int) -> list[Extent]:
        """Where a file lies on its device: FIEMAP. Empty where its file system has no such map."""
        found: list[Extent] = []
        start = 0
        while start < size and len(found) < MAX_EXTENTS:
            asked = request(start, size - start, _EXTENTS_AT_ONCE)
            buffer = self._proxy.buffer(asked)
            answer = self._proxy.raw(
                "ioctl", file.number, FS_IOC_FIEMAP, buffer, label=f"ioctl FIEMAP {file.path}"
            )
            if answer < 0:
                return found
            part = list(parse_extents(self._proxy.answer(f"ioctl FIEMAP {file.path}", len(asked))))
            found += part
            if not part or part[-1].is_last or part[-1].offset + part[-1].size <= start:
                return found
            start = part[-1].offset + part[-1].size
        return found

    def pieces(
        self, opener: Opener, start: int = 0, end: int | None = None, size: int | None = None
    ) -> Iterator[Piece]:
        """The content of a regular file, in ascending order, from `start` to its end, or to `end`. `size` is
        the file's, if it is known."""
        return merged(self._pieces(opener, start, end, size))

    def _pieces(self, opener: Opener, start: int, stop: int | None, known: int | None) -> Iterator[Piece]:
        """A page at which the kernel's code ends badly is missing; after `MAX_ROLLBACKS` of them, or
        `MAX_LOST_SECONDS`, the rest."""
        offset, size, reason, lost = start, 0, "", 0.0
        for attempt in range(MAX_ROLLBACKS + 1):
            with opener() as file:
                size = self.attributes(file).size if known is None else known
                if not size:  # a file of the guest's own /proc, say, which has no size: it ends where it ends
                    yield from window(file.read_at, start, MAX_FILE_SIZE if stop is None else stop - start)
                    return
                size = size if stop is None else min(size, stop)
                if attempt:
                    end = min(next_page(offset), size)
                    yield Piece(PieceKind.MISSING, offset, end - offset, reason=reason)
                    offset = end
                begun = time.process_time()
                try:
                    for piece in self._readable_pieces(file, offset, size):
                        self._proxy.labels.place(file.path, piece.ranges)
                        yield piece
                        offset, begun = piece.end, time.process_time()
                    return
                except CallRolledBack as error:
                    reason = _ABSENT[errno.EINTR] if _WAITS in error.reason else error.reason
                    lost += time.process_time() - begun
            if lost > MAX_LOST_SECONDS:
                break
        yield Piece(PieceKind.MISSING, offset, size - offset, reason=f"given up: {reason}")

    def present_bytes(self, file: OpenFile, size: int) -> int:
        """How many of a file's first `size` bytes can be read, holes among them. CallRolledBack."""
        pieces = self._readable_pieces(file, 0, size, content=False)
        return sum(piece.size for piece in pieces if piece.kind is not PieceKind.MISSING)

    def _readable_pieces(
        self, file: OpenFile, offset: int, size: int, content: bool = True
    ) -> Iterator[Piece]:
        gaps, data_until = 0, 0
        while offset < size:
            found = self._read(file, offset, size, content)
            if isinstance(found, Gap):
                gaps += 1
                if not found.number and not self.attributes(file).blocks:
                    return  # of the guest's own /sys, where the size is a page; a hole would have been read
                if not found.number or gaps > MAX_GAPS:
                    why = (
                        f"given up after {MAX_GAPS:,} gaps"
                        if found.number
                        else "the file ends before its size"
                    )
                    yield Piece(PieceKind.MISSING, offset, size - offset, reason=why)
                    return
                hole = None
                if offset >= data_until:
                    hole, data_until = self._hole_or_data(file, offset, size)
                found = [hole] if hole else list(self._missing(found, offset, min(data_until, size), size))
            yield from found
            offset = found[-1].end

    def _read(self, file: OpenFile, offset: int, size: int, content: bool) -> list[Piece] | Gap:
        """The pieces that one read finds, or why there are none. OSError if it is a directory."""
        found = self._named.read(file, offset, size, content)
        if found is None:
            wanted = min(LARGEST_READ, size - offset)
            count = self._proxy.raw(
                "pread64", file.number, self._proxy.buffer(), wanted, offset, label=f"pread64 {file.path}"
            )
            if count > 0:
                data = self._proxy.answer(file.path, min(count, wanted), more=True)
                return [Piece(PieceKind.DATA, offset, len(data), data)]
            found = Gap(-count)
        if isinstance(found, Gap) and found.number == errno.EISDIR:
            raise OSError(found.number, os.strerror(found.number), file.path)
        return found

    def _missing(self, gap: Gap, offset: int, data_until: int, size: int) -> Iterator[Piece]:
        """The page at an offset, which cannot be read, and those behind it that are not in the page cache
        either, as far as the file system has data there."""
        end = min(next_page(offset), size)
        yield Piece(
            PieceKind.MISSING, offset, end - offset, reason=_ABSENT.get(gap.number) or os.strerror(gap.number)
        )
        following = self._named.next_page(gap.mapping_vaddr, end, data_until)
        if following > end:
            yield Piece(PieceKind.MISSING, end, following - end, reason=_ABSENT[errno.ENOMEM])

    def _hole_or_data(self, file: OpenFile, offset: int, size: int) -> tuple[Piece | None, int]:
        """The hole at an offset, and its end; or None, and the end of the data that the file system has
        there."""
        data = self._proxy.raw("lseek", file.number, offset, _SEEK_DATA, label=f"lseek {file.path}")
        if data == -errno.ENXIO:
            return Piece(PieceKind.HOLE, offset, size - offset), size
        if data > offset:
            return Piece(PieceKind.HOLE, offset, min(data, size) - offset), min(data, size)
        hole = self._proxy.raw("lseek", file.number, offset, _SEEK_HOLE, label=f"lseek {file.path}")
        return None, hole if hole > offset else size  # an errno: the size is beyond the file system's limits
