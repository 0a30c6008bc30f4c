"""Small kdump-compressed files, written for tests (makedumpfile 1.7: diskdump_mod.h)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping

PAGE = 4096
ZLIB, LZO, SNAPPY, ZSTD = 1, 2, 4, 0x20


def kdump(
    pages: Mapping[int, tuple[bytes, int]],
    present: Iterable[int] = (),
    status: int = ZLIB,
    split: int = 0,
    level: int = 0,
    notes: bytes = b"",
    erased: bytes = b"",
) -> bytes:
    """`pages`: page number -> (data as it is stored, flags); `present`: pages that the dump leaves out, at a
    dump level. `notes` are ELF notes, and `erased` is the list of what was erased, at the file's end."""
    max_page = max([*pages, *present], default=0) + 1
    bitmap_blocks = -(-max_page // (PAGE * 8))
    head = struct.pack(
        "<8si390s22xIiiIII", b"KDUMP   ", 6, bytes(390), status, PAGE, 1, 2 * bitmap_blocks, max_page, 0
    )
    bitmaps = b"".join(_bitmap(which, bitmap_blocks * PAGE) for which in ([*pages, *present], pages))
    stored_size = sum(len(stored) for stored, _flags in pages.values())
    data_offset = len(bitmaps) + 2 * PAGE + 24 * len(pages)
    descriptors, data = b"", b""
    for _page, (stored, flags) in sorted(pages.items()):
        descriptors += struct.pack("<QIIQ", data_offset + len(data), len(stored), flags, 0)
        data += stored
    notes_at = data_offset + stored_size
    ranges = (0, 0, notes_at, len(notes), notes_at + len(notes), len(erased))
    sub = struct.pack("<QiiQQQQQQQQ", 0, level, split, 0, 0, *ranges)
    sub = sub.ljust(96, b"\0") + struct.pack("<Q", max_page)
    return head.ljust(PAGE, b"\0") + sub.ljust(PAGE, b"\0") + bitmaps + descriptors + data + notes + erased


def _bitmap(pages: Iterable[int], size: int) -> bytes:
    bits = bytearray(size)
    for page in pages:
        bits[page >> 3] |= 1 << (page & 7)
    return bytes(bits)


def packed(content: bytes) -> tuple[bytes, int]:
    """A page compressed with zlib."""
    return zlib.compress(content), ZLIB


def flat(pieces: Iterable[tuple[int, bytes]], end: bool = True) -> bytes:
    """The flattened format of `(offset, data)` pieces."""
    parts = [struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(4096, b"\0")]
    parts += [struct.pack(">qq", offset, len(data)) + data for offset, data in pieces]
    return b"".join(parts) + (struct.pack(">qq", -1, -1) if end else b"")
