"""makedumpfile's flattened format: a file as a stream of pieces, each with the offset where it belongs.

What `makedumpfile -F` writes to a pipe (a kdump-compressed dump, or with -E an ELF core), and QEMU's
`dump-guest-memory -z` to a file: a header of 4096 bytes,
then pieces, each behind its offset and size (signed 64-bit, big endian), and one with offset -1 at the end
(makedumpfile 1.7, makedumpfile.h: `struct makedumpfile_header`, `struct makedumpfile_data_header`).
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.elf_core import parse_elf_core
from hybridbridge_vol.memory_image.formats import ELF
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.kdump import parse_kdump
from hybridbridge_vol.memory_image.physical import PhysicalImage, read_through

_HEADER_SIZE = 4096
_PIECE = struct.Struct(">qq")
_TYPE_FLAT, _VERSION_FLAT = 1, 1
MAX_PIECES = 1 << 24
"""400 MB of index. QEMU and makedumpfile write pieces of 16 KiB and more, so this is for 256 GiB of data."""
_PIECES_PER_STEP = 1 << 16


class Flattened:
    """The file that the pieces make up; `size` bytes long. `truncated`: the last piece or the end mark is
    missing.

    Its index is built at once, from the pieces' headers. Of two pieces for the same offset the later one
    counts.
    """

    def __init__(self, source: Source) -> None:
        if _PIECE.unpack_from(source.read_at(16, 16).ljust(16, b"\0")) != (_TYPE_FLAT, _VERSION_FLAT):
            raise ImageError(
                f"{source.name}: flattened in an unknown way; use 'makedumpfile -R' to bring it into shape"
            )
        self._read_at = source.read_at
        self.truncated = True
        offsets, sizes, piece_offsets = array("q"), array("q"), array("q")
        at = _HEADER_SIZE
        while at + _PIECE.size <= source.size:
            offset, size = _PIECE.unpack(source.read_at(at, _PIECE.size).ljust(_PIECE.size, b"\xff"))
            if offset < 0 or size <= 0:
                self.truncated = offset != -1
                break
            if len(offsets) == MAX_PIECES:
                raise ImageError(
                    f"{source.name}: flattened into too many pieces; use 'makedumpfile -R' to join them"
                )
            at += _PIECE.size
            offsets.append(offset)
            sizes.append(min(size, source.size - at))
            piece_offsets.append(at)
            at += size
            if source.progress and len(offsets) % _PIECES_PER_STEP == 0:
                source.progress(at / source.size, "indexing the flattened dump")
        order = sorted(
            range(len(offsets)), key=offsets.__getitem__
        )  # stable: later pieces behind earlier ones
        self._offsets, self._sizes, self._piece_offsets = (
            array("q", map(column.__getitem__, order)) for column in (offsets, sizes, piece_offsets)
        )
        self.size = max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes of the file at `offset`; fewer where no piece has them."""
        parts = []
        while size > 0:
            piece = bisect_right(self._offsets, offset) - 1
            if piece < 0:
                break
            skipped = offset - self._offsets[piece]
            length = min(size, self._sizes[piece] - skipped)
            if length <= 0:
                break
            part = self._read_at(self._piece_offsets[piece] + skipped, length)
            parts.append(part)
            if len(part) < length:
                break
            offset += length
            size -= length
        return b"".join(parts)


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    whole = Flattened(file.source)
    inner = Source(file.source.name, whole.size, whole.read_at, file.source.progress)
    if whole.read_at(0, len(ELF)) == ELF:
        return PhysicalImage(file, read_through(parse_elf_core(inner, "ELF core (flattened)"), whole.read_at))
    return PhysicalImage(file, parse_kdump(inner, "kdump (flattened)"))
