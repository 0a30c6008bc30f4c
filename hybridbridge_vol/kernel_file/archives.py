"""The archive formats that packages are made of, read as streams: ar, tar, cpio, and rpm's headers.

Every size in them is checked before it is believed. Functions raise ValueError for what is damaged and
EOFError for what is cut short; `packages` turns both into one line that names the file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO

AR_MAGIC = b"!<arch>\n"
RPM_MAGIC = b"\xed\xab\xee\xdb"

MAX_MEMBER_SIZE = 512 << 20
"""Bytes that one wanted file may have; the largest kernel modules have some 20 MB."""
_MAX_TEXT_SIZE = 1 << 20
"""Bytes that a name, a link or a pax header may have; PATH_MAX is 4096."""
_MAX_RPM_HEADER_SIZE = 256 << 20
"""rpm itself allows no more (lib/header_internal.h, HEADER_DATA_MAX)."""

_AR_HEADER_SIZE = 60
_TAR_BLOCK = 512
_RPM_LEAD_SIZE = 96
_RPM_HEADER_MAGIC = b"\x8e\xad\xe8"
_RPM_STRING_TYPES = (6, 8, 9)
RPMTAG_REQUIRENAME = 1049

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Member:
    """One file of a package: path from the root (no leading slash), permission bits, link target, contents.

    A hard link is given as a symbolic link to the absolute path.
    """

    name: str
    mode: int
    link: str
    data: bytes


class Slice(io.RawIOBase):
    """A range of a file, read-only."""

    def __init__(self, stream: IO[bytes], start: int, size: int) -> None:
        self._stream, self._at, self._end = stream, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        self._stream.seek(self._at)
        data = self._stream.read(min(len(view), self._end - self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def decompressed(raw: io.RawIOBase) -> IO[bytes]:
    """A stream decompressed by its magic bytes; as it is if it has none of them."""
    stream = io.BufferedReader(raw, 1 << 16)
    head = stream.peek(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    if head.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return lzma.LZMAFile(stream)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return stream


def decompressed_bytes(data: bytes) -> bytes:
    """What `data` is when decompressed by its magic bytes, itself if it has none; cut at
    `MAX_MEMBER_SIZE`."""
    return decompressed(Slice(io.BytesIO(data), 0, len(data))).read(MAX_MEMBER_SIZE)


def damage_errors() -> tuple[type[Exception], ...]:
    """What damaged input makes the functions of this module and the decompressors raise.

    OSError without an errno is gzip's and bz2's; MemoryError a dictionary larger than there is memory.
    """
    import zlib

    import zstandard

    return (
        OSError,
        MemoryError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
    )


def read_exactly(stream: IO[bytes], size: int, most: int = MAX_MEMBER_SIZE) -> bytes:
    """`size` bytes; ValueError if that is more than `most`, EOFError if there are not so many."""
    if not 0 <= size <= most:
        raise ValueError(f"an absurd size of {size} bytes")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("cut short")
    return data


def skip(stream: IO[bytes], size: int) -> None:
    """Pass over `size` bytes of a stream that cannot seek."""
    if size < 0:
        raise ValueError("a negative size")
    while size:
        passed = len(stream.read(min(size, 1 << 20)))
        if not passed:
            raise EOFError("cut short")
        size -= passed


def ar_member(stream: IO[bytes], prefix: str) -> Slice | None:
    """The first member of an ar archive (deb(5)) whose name begins with `prefix`."""
    stream.seek(len(AR_MAGIC))
    while len(header := stream.read(_AR_HEADER_SIZE)) == _AR_HEADER_SIZE:
        name = header[:16].decode("latin-1")
        size = _number(header[48:58], 10)
        if name.startswith(prefix):
            return Slice(stream, stream.tell(), size)
        stream.seek(size + size % 2, io.SEEK_CUR)
    return None


def tar_members(stream: IO[bytes], wanted: Wanted) -> Iterator[Member]:
    """Wanted files and links of a tar as dpkg-deb and its like write it: ustar, GNU long names, pax paths."""
    long_name = long_link = ""
    while any(header := read_exactly(stream, _TAR_BLOCK)):
        size = _tar_number(header[124:136])
        padding = -size % _TAR_BLOCK
        kind = header[156:157]
        if kind in (b"L", b"K", b"x", b"g"):
            text = read_exactly(stream, size, _MAX_TEXT_SIZE)
            skip(stream, padding)
            if kind == b"L":
                long_name = _text(text)
            elif kind == b"K":
                long_link = _text(text)
            elif kind == b"x":
                pax = dict(_pax_records(text))
                long_name, long_link = pax.get("path", long_name), pax.get("linkpath", long_link)
            continue
        name = _text(header[:100])
        if header[257:263] == b"ustar\0" and header[345]:
            name = f"{_text(header[345:500])}/{name}"
        name = _from_root(long_name or name)
        link = long_link or _text(header[157:257])
        mode = _tar_number(header[100:108]) & 0o7777
        long_name = long_link = ""
        if kind in (b"1", b"2"):
            skip(stream, size + padding if kind == b"2" else 0)
            if wanted(name):
                yield Member(name, mode, link if kind == b"2" else "/" + _from_root(link), b"")
        elif kind in (b"0", b"\0", b"7") and wanted(name):
            data = read_exactly(stream, size)
            skip(stream, padding)
            yield Member(name, mode, "", data)
        else:
            skip(stream, size + padding)


def _pax_records(text: bytes) -> Iterator[tuple[str, str]]:
    """`LENGTH KEY=VALUE\\n` records (pax(1))."""
    at = 0
    while at < len(text):
        space = text.find(b" ", at, at + 20)
        length = _number(text[at:space], 10) if space > at else 0
        if length < space - at + 2 or at + length > len(text):
            raise ValueError("a damaged pax header")
        key, _, value = text[space + 1 : at + length - 1].partition(b"=")
        yield key.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
        at += length


def cpio_members(stream: IO[bytes], wanted: Wanted) -> Iterator[Member]:
    """Wanted files and links of a newc cpio (Documentation/driver-api/early-userspace/buffer-format.rst).

    Of several hard links to one file the last carries the contents; all of them are given, when it comes.
    """
    waiting: dict[tuple[int, ...], list[Member]] = {}
    while True:
        header = read_exactly(stream, 110)
        if header[:6] not in (b"070701", b"070702"):
            raise ValueError("not a newc cpio header")
        fields = [_number(header[at : at + 8], 16) for at in range(6, 110, 8)]
        ino, mode, links, size, name_size = (fields[number] for number in (0, 1, 4, 6, 11))
        name = _text(read_exactly(stream, name_size, _MAX_TEXT_SIZE))
        skip(stream, -(110 + name_size) % 4)
        if name == "TRAILER!!!":
            for links_to_an_empty_file in waiting.values():
                yield from links_to_an_empty_file
            return
        name = _from_root(name)
        same_file = waiting.setdefault((ino, *fields[7:9]), []) if stat.S_ISREG(mode) and links > 1 else []
        if (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) and wanted(name):
            same_file.append(Member(name, mode & 0o7777, "", b""))
        if links > 1 and not size:
            continue
        padding = -size % 4
        if not same_file:
            skip(stream, size + padding)
            continue
        data = read_exactly(stream, size, _MAX_TEXT_SIZE if stat.S_ISLNK(mode) else MAX_MEMBER_SIZE)
        skip(stream, padding)
        if stat.S_ISLNK(mode):
            yield replace(same_file[0], link=_text(data))
        else:
            yield from (replace(member, data=data) for member in same_file)
            same_file.clear()


def rpm_payload(stream: IO[bytes]) -> Slice:
    """The compressed cpio behind lead, signature and header (RPM file format, versions 3 and 4)."""
    _, payload_offset = _rpm_header(stream)
    stream.seek(0, io.SEEK_END)
    return Slice(stream, payload_offset, stream.tell() - payload_offset)


def rpm_strings(stream: IO[bytes], tag: int) -> list[str]:
    """The strings of one tag of an rpm's header; empty if it has no such tag."""
    header_offset, payload_offset = _rpm_header(stream)
    stream.seek(header_offset)
    header = read_exactly(stream, payload_offset - header_offset, 2 * _MAX_RPM_HEADER_SIZE)
    (entries,) = struct.unpack_from(">I", header, 8)
    store = 16 + 16 * entries
    for entry in range(16, store, 16):
        found, kind, offset, count = struct.unpack_from(">IIII", header, entry)
        if found == tag and kind in _RPM_STRING_TYPES and store + offset < len(header):
            strings = header[store + offset :].split(b"\0", min(count, len(header)))[:count]
            return [string.decode("utf-8", "replace") for string in strings]
    return []


def _rpm_header(stream: IO[bytes]) -> tuple[int, int]:
    """Where the header behind lead and signature begins and ends. The signature alone is padded, to 8."""
    start = end = _RPM_LEAD_SIZE
    for alignment in (8, 1):
        start = end
        stream.seek(start)
        intro = read_exactly(stream, 16)
        entries, size = struct.unpack_from(">II", intro, 8)
        if intro[:3] != _RPM_HEADER_MAGIC or 16 * entries + size > _MAX_RPM_HEADER_SIZE:
            raise ValueError("no header where one should be")
        end = start + 16 + 16 * entries + size
        end += -end % alignment
    return start, end


def _tar_number(field: bytes) -> int:
    """Octal digits, or big-endian binary if the top bit is set (GNU)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return _number(field.strip(b" \0") or b"0", 8)


def _number(digits: bytes, base: int) -> int:
    """A number without sign; ValueError if it is none."""
    number = int(digits, base)
    if number < 0:
        raise ValueError("a negative number")
    return number


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _from_root(name: str) -> str:
    return name.removeprefix("./").lstrip("/")
