"""What LiME writes with compress=1: all of its output as one zlib stream (LiME's src/deflate.c).

It holds what the format asked for: LiME's ranges, or with format=padded a raw image. Opening unpacks the
whole once, some seconds for each GiB.
"""

from __future__ import annotations

import zlib

from hybridbridge_vol.memory_image import lime
from hybridbridge_vol.memory_image.format import Format
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.physical import PhysicalImage, read_through
from hybridbridge_vol.memory_image.raw import parse_raw
from hybridbridge_vol.memory_image.zlib_stream import ZlibStream

_DEFLATE = 8
_PROBED = 64


def _recognizes(file: ImageFile) -> bool:
    """A zlib header (RFC 1950, 2.2: method, window of at most 32 KiB, check bits) of a stream that begins
    well: two bytes alone prove little."""
    if len(file.head) < 2 or file.head[0] & 15 != _DEFLATE or file.head[0] >> 4 > 7:
        return False
    if int.from_bytes(file.head[:2], "big") % 31:
        return False
    try:
        return len(zlib.decompressobj().decompress(file.head, _PROBED)) == _PROBED
    except zlib.error:
        return False


def _open(file: ImageFile) -> PhysicalImage:
    stream = ZlibStream(file.source)
    inner = Source(file.source.name, stream.size, stream.read_at, file.source.progress)
    if lime.is_lime(stream.read_at(0, _PROBED)):
        contents = lime.parse_lime(inner, "LiME (compressed)")
    else:
        contents = parse_raw(inner, "raw (compressed by LiME)")
    return PhysicalImage(file, read_through(contents, stream.read_at))


FORMAT = Format(_recognizes, _open)
