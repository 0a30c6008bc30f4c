"""Distribution packages, read without dpkg or rpm: `.deb` (ar of tars) and `.rpm` (headers and a cpio)."""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hybridbridge_vol.errors import KernelFileError

AR_MAGIC = b"!<arch>\n"
RPM_MAGIC = b"\xed\xab\xee\xdb"
RPM_HEADER_MAGIC = b"\x8e\xad\xe8"
_RPM_LEAD_SIZE = 96
_AR_HEADER_SIZE = 60
MAX_MEMBER_SIZE = 512 << 20
"""Bytes a package member may have; the largest kernel modules have some 20 MB."""


@dataclass(frozen=True)
class Member:
    """One file of a package: its path from the root without a leading slash, mode bits, link target, contents."""

    name: str
    mode: int
    link: str
    data: bytes


def is_package(head: bytes) -> bool:
    """Whether a file that begins with `head` is a package that `members` reads."""
    return head.startswith((AR_MAGIC, RPM_MAGIC))


def members(path: Path, pattern: str = "*") -> Iterator[Member]:
    """Files and links of a `.deb` or `.rpm` whose path matches the shell pattern, as a stream.

    Raises KernelFileError if the package is damaged, OSError if it cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(8)
        stream.seek(0)
        try:
            if head.startswith(AR_MAGIC):
                yield from _tar_members(_deb_part(stream, "data.tar", path), pattern)
            elif head.startswith(RPM_MAGIC):
                yield from _cpio_members(_rpm_payload(stream), pattern)
            else:
                raise KernelFileError(f"{path}: neither a .deb nor a .rpm")
        except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, struct.error, zlib_error()) as error:
            raise KernelFileError(f"{path}: damaged package ({error}); fetch it again") from None


def zlib_error() -> type[Exception]:
    """zlib's error type, which gzip lets through."""
    import zlib

    return zlib.error


def debian_dependencies(path: Path) -> str:
    """The Depends field of a `.deb`, empty if it has none."""
    with open(path, "rb") as stream:
        for member in _tar_members(_deb_part(stream, "control.tar", path), "control"):
            for line in member.data.decode("utf-8", "replace").splitlines():
                if line.startswith("Depends:"):
                    return line.partition(":")[2].strip()
    return ""


def _deb_part(stream: IO[bytes], prefix: str, path: Path) -> IO[bytes]:
    """The decompressed tar of a `.deb` whose ar member's name begins with `prefix` (deb(5))."""
    stream.seek(len(AR_MAGIC))
    while len(header := stream.read(_AR_HEADER_SIZE)) == _AR_HEADER_SIZE:
        name = header[:16].decode("latin-1").strip().rstrip("/")
        size = int(header[48:58])
        if name.startswith(prefix):
            return _decompressed(_Slice(stream, stream.tell(), size))
        stream.seek(size + size % 2, io.SEEK_CUR)
    raise KernelFileError(f"{path}: a truncated .deb (no {prefix}); fetch it again")


class _Slice(io.RawIOBase):
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


def _decompressed(raw: io.RawIOBase) -> IO[bytes]:
    """A stream decompressed by its magic bytes; plain if it has none of them."""
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


def _tar_members(stream: IO[bytes], pattern: str) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            name = info.name.removeprefix("./").lstrip("/")
            if not fnmatch.fnmatchcase(name, pattern) or info.size > MAX_MEMBER_SIZE:
                continue
            if info.isreg():
                contents = archive.extractfile(info)
                yield Member(name, info.mode, "", contents.read() if contents else b"")
            elif info.issym() or info.islnk():
                yield Member(name, info.mode, info.linkname, b"")


def _rpm_payload(stream: IO[bytes]) -> IO[bytes]:
    """The decompressed cpio behind lead, signature and header (RPM file format, version 4)."""
    offset = _RPM_LEAD_SIZE
    for is_signature in (True, False):
        stream.seek(offset)
        intro = stream.read(16)
        if intro[:3] != RPM_HEADER_MAGIC:
            raise ValueError("no header where one should be")
        entries, size = struct.unpack(">II", intro[8:16])
        offset += 16 + 16 * entries + size
        if is_signature:
            offset += -offset % 8
    stream.seek(0, io.SEEK_END)
    return _decompressed(_Slice(stream, offset, stream.tell() - offset))


def _cpio_members(stream: IO[bytes], pattern: str) -> Iterator[Member]:
    """newc cpio, Documentation/driver-api/early-userspace/buffer-format.rst."""
    while len(header := stream.read(110)) == 110:
        if header[:6] not in (b"070701", b"070702"):
            raise ValueError("not a newc cpio header")
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        if name_size > 4096 or size > MAX_MEMBER_SIZE:
            raise ValueError("absurd sizes in a cpio header")
        name = stream.read(name_size).rstrip(b"\0").decode("utf-8", "replace")
        stream.read(-(110 + name_size) % 4)
        data = stream.read(size)
        stream.read(-size % 4)
        if name == "TRAILER!!!":
            return
        name = name.removeprefix("./").lstrip("/")
        if fnmatch.fnmatchcase(name, pattern):
            kind = mode & 0o170000
            if kind == 0o120000:
                yield Member(name, mode & 0o7777, data.decode("utf-8", "replace"), b"")
            elif kind == 0o100000:
                yield Member(name, mode & 0o7777, "", data)


def read_vmlinuz(path: Path) -> bytes:
    """The bytes of the kernel that `path` is or contains: a vmlinuz, a `.deb` or a `.rpm`.

    KernelFileError says what is wrong with the file and what to give instead.
    """
    try:
        if path.is_dir():
            raise KernelFileError(f"{path}: a directory; give a vmlinuz, a .deb or a .rpm")
        with open(path, "rb") as stream:
            if not is_package(stream.read(8)):
                stream.seek(0)
                return stream.read(MAX_MEMBER_SIZE)
        for pattern in ("boot/vmlinuz*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz"):
            for member in members(path, pattern):
                if member.data:
                    return member.data
        hint = ""
        if path.suffix == ".deb" and (dependencies := debian_dependencies(path)):
            hint = f"; it depends on: {dependencies}"
    except OSError as error:
        raise KernelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    raise KernelFileError(f"{path}: a package without a kernel (no boot/vmlinuz){hint}")
