"""Raw images: the file offset is the physical address.

Of LiME's format=raw it is not: the ranges that the kernel calls "System RAM" stand back to back, and only the
memory map that the guest's kernel keeps says where each belongs. Such a file is recognized by its size, which
is not a whole number of MiB as a machine's memory is.
"""

from __future__ import annotations

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.e820 import low_memory_size, system_ram_back_to_back
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, MIN_IMAGE_SIZE, Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import Run

FORMAT = "raw"
_WHOLE = 1 << 20


def parse_raw(source: Source, format_name: str = FORMAT) -> Contents:
    """One run from 0 on. ImageError if the size is not one of a machine's memory."""
    if source.size < MIN_IMAGE_SIZE:
        raise ImageError(f"{source.name}: too small to hold a Linux kernel ({source.size} bytes)")
    if source.size > MAX_PADDR:
        raise ImageError(f"{source.name}: larger than any machine's memory ({source.size} bytes)")
    return Contents(format_name, [Run(0, source.size, 0)])


def lacks_its_hole(image: PhysicalImage) -> bool:
    """Whether a raw image has what lies beyond 4 GiB right behind the memory below, by the memory map that
    the guest's kernel keeps: as Firecracker and Cloud Hypervisor store a guest's memory, and as QEMU's memory
    backends are. The file is searched, some seconds for each GiB. OSError, ImageError."""
    if image.format_name != FORMAT:
        return False
    file = ImageFile(image.path)
    try:
        return low_memory_size(file.source, file.extents()) is not None
    finally:
        file.close()


def open_file(file: ImageFile) -> PhysicalImage:
    contents = parse_raw(file.source)
    runs = system_ram_back_to_back(file.source, file.extents()) if file.size % _WHOLE else None
    if runs:
        contents = Contents("raw without gaps (addresses by the guest's memory map)", runs)
    return PhysicalImage(file, contents)
