"""What LiME writes with compress=1: all of its output as one zlib stream (LiME's src/deflate.c).

It holds what the format asked for: LiME's ranges, or with format=padded a raw image. Opening unpacks the
whole once, some seconds for each GiB.
"""

from __future__ import annotations

from hybridbridge_vol.memory_image.formats import PROBED, is_lime
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.lime import parse_lime
from hybridbridge_vol.memory_image.physical import PhysicalImage, read_through
from hybridbridge_vol.memory_image.raw import parse_raw
from hybridbridge_vol.memory_image.zlib_stream import ZlibStream


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    stream = ZlibStream(file.source)
    inner = Source(file.source.name, stream.size, stream.read_at, file.source.progress)
    if is_lime(stream.read_at(0, PROBED)):
        contents = parse_lime(inner, "LiME (compressed)")
    else:
        contents = parse_raw(inner, "raw (compressed by LiME)")
    return PhysicalImage(file, read_through(contents, stream.read_at))
