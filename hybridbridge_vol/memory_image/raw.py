"""Raw images: the file offset is the physical address."""

from __future__ import annotations

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.format import Format
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, MIN_IMAGE_SIZE, Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import Run


def parse_raw(source: Source, format_name: str = "raw") -> Contents:
    """One run from 0 on. ImageError if the size is not one of a machine's memory."""
    if source.size < MIN_IMAGE_SIZE:
        raise ImageError(f"{source.name}: too small to hold a Linux kernel ({source.size} bytes)")
    if source.size > MAX_PADDR:
        raise ImageError(f"{source.name}: larger than any machine's memory ({source.size} bytes)")
    return Contents(format_name, [Run(0, source.size, 0)])


FORMAT = Format(lambda _file: True, lambda file: PhysicalImage(file, parse_raw(file.source)))
