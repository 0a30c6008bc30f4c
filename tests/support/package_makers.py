"""Packages in miniature, made from the formats' descriptions and by other people's writers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Callable, Iterable, Sequence

import zstandard

FileEntry = tuple[str, int, bytes]
"""Path, mode with its file type, contents (of a link: its target)."""


def tar(entries: Iterable[FileEntry], format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar as Python's own writer makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, mode, data in entries:
            info = tarfile.TarInfo("./" + name)
            info.mode = mode & 0o7777
            if mode & 0o170000 == 0o120000:
                info.type, info.linkname = tarfile.SYMTYPE, data.decode()
                archive.addfile(info)
            elif mode & 0o170000 == 0o040000:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def ar(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """An ar archive (deb(5))."""
    out = b"!<arch>\n"
    for name, data in parts:
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
            + data
            + b"\n" * (len(data) % 2)
        )
    return out


def deb(
    entries: Iterable[FileEntry],
    method: str = "xz",
    control: str = "Package: mini\n",
    format: int = tarfile.GNU_FORMAT,
) -> bytes:
    pack = PACKERS[method]
    files = [("control", 0o100644, control.encode())]
    suffix = {"zstd": "zst", "gzip": "gz", "bzip2": "bz2", "none": ""}.get(method, method)
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            (f"control.tar.{suffix}".rstrip("."), pack(tar(files))),
            (f"data.tar.{suffix}".rstrip("."), pack(tar(entries, format))),
        ]
    )


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


def cpio_entry(name: str, mode: int, data: bytes, ino: int = 0, links: int = 1) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (ino, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08x" % number for number in fields) + encoded
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def cpio(entries: Iterable[FileEntry]) -> bytes:
    """A newc cpio (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    files = [cpio_entry("./" + name, mode, data, ino) for ino, (name, mode, data) in enumerate(entries)]
    return b"".join(files) + cpio_entry("TRAILER!!!", 0, b"")


def rpm_header(tags: Iterable[tuple[int, list[str]]]) -> bytes:
    """A header of string arrays (RPM file format, version 4)."""
    index, store = b"", b""
    entries = list(tags)
    for tag, strings in entries:
        index += struct.pack(">IIII", tag, 8, len(store), len(strings))
        store += b"".join(text.encode() + b"\0" for text in strings)
    return b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", len(entries), len(store)) + index + store


def rpm(entries: Iterable[FileEntry], method: str = "zstd", requires: Sequence[str] = ()) -> bytes:
    return rpm_of(PACKERS[method](cpio(entries)), requires)


def rpm_of(payload: bytes, requires: Sequence[str] = ()) -> bytes:
    """Lead, signature, header and a payload."""
    lead = b"\xed\xab\xee\xdb\x03\x00".ljust(96, b"\0")
    signature = rpm_header([(269, ["0123456789"])])
    signature += bytes(-len(signature) % 8)
    header = rpm_header([(1000, ["mini"]), (1049, list(requires))])
    return lead + signature + header + payload
