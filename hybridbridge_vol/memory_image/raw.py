"""Raw images: the file offset is the physical address."""

from __future__ import annotations

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.format import Format
from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import MAX_PADDR, MIN_IMAGE_SIZE, Contents, PhysicalImage, Run


def _open(file: ImageFile) -> PhysicalImage:
    if file.size < MIN_IMAGE_SIZE:
        raise ImageError(f"{file.path}: too small to hold a Linux kernel ({file.size} bytes)")
    if file.size > MAX_PADDR:
        raise ImageError(f"{file.path}: larger than any machine's memory ({file.size} bytes)")
    return PhysicalImage(file, Contents("raw", [Run(0, file.size, 0)]))


FORMAT = Format(lambda _file: True, _open)
