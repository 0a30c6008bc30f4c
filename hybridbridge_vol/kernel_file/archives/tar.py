"""Files and links of the tar in a `.deb`, read by `tarfile` from a stream that cannot seek.

`tarfile` believes the sizes that headers state, and takes a damaged header for the end of the archive. Both
are caught here: `_ForwardStream` bounds what it may read to get from one member to the next, and `_Header`
raises where a header is not one.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO

from hybridbridge_vol.kernel_file.archives.member import MAX_TEXT_SIZE, Member, Wanted, from_root
from hybridbridge_vol.kernel_file.archives.streams import read_exactly, skip

_MAX_MEMBERS = 1 << 18
"""`tarfile` keeps a record of each member, about 1 KiB; a kernel's source has 90,000."""
_MAX_HEADERS = 3 * MAX_TEXT_SIZE
"""Bytes that may stand between two members: a long name, a long link, a pax header."""
_PLAIN_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


def tar_members(stream: IO[bytes], wanted: Wanted, plain_only: bool = False) -> Iterator[Member]:
    """Wanted files and links of a tar: ustar, GNU long names, pax.

    ValueError if it is damaged or states an absurd size, and with `plain_only` if it has anything but plain
    files (links, folders, devices); EOFError if it is truncated.
    """
    forward = _ForwardStream(stream)
    try:
        with tarfile.open(fileobj=forward, mode="r:", tarinfo=_Header) as archive:  # type: ignore[call-overload]
            for count, header in enumerate(archive):
                if count == _MAX_MEMBERS:
                    raise ValueError(f"more than {_MAX_MEMBERS} files")
                if plain_only and header.type not in _PLAIN_FILES:
                    raise ValueError(f"not a plain file: {header.name[:80]!r}")
                member = _member(header, forward, wanted)
                forward.begin_header()
                if member is not None:
                    yield member
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None


def _member(header: tarfile.TarInfo, forward: _ForwardStream, wanted: Wanted) -> Member | None:
    """The member of a header; None if it is not a wanted file or link."""
    name, mode = from_root(header.name), header.mode & 0o7777
    if header.type not in (*_PLAIN_FILES, tarfile.LNKTYPE, tarfile.SYMTYPE) or not wanted(name):
        return None
    if header.type == tarfile.SYMTYPE:
        return Member(name, mode, header.linkname, b"")
    if header.type == tarfile.LNKTYPE:
        return Member(name, mode, "/" + from_root(header.linkname), b"")
    return Member(name, mode, "", forward.data(header.offset_data, header.size))


class _Header(tarfile.TarInfo):
    """A header that is checked: only a block of zeros ends an archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """See `TarInfo.frombuf`."""
        if len(buf) < tarfile.BLOCKSIZE:
            raise EOFError("truncated")
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):
                raise
            raise ValueError(str(error)) from None


class _ForwardStream(io.RawIOBase):
    """A stream that only goes forward, with a position, and with a bound on what is read of headers."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0
        self._allowance = _MAX_HEADERS

    def begin_header(self) -> None:
        """The next bytes that are read are headers of the next member."""
        self._allowance = _MAX_HEADERS

    def data(self, offset: int, size: int) -> bytes:
        """A member's contents. ValueError for an absurd size."""
        self.seek(offset)
        data = read_exactly(self._stream, size)
        self._position += size
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        skip(self._stream, offset - self._position)
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Bytes of headers."""
        if not 0 <= size <= self._allowance:
            raise ValueError(f"an absurd size of {size} bytes")
        data = self._stream.read(size)
        self._position += len(data)
        self._allowance -= len(data)
        return data
