"""The file formats of memory images: how each is recognized, and which module reads it.

A module is imported when a file of its format is opened: a dozen and more of them would cost every run 6 ms.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import PhysicalImage

LIME, LIME_VERSION = b"EMiL", 1
AVML, AVML_VERSION = b"AVML", 2
ELF = b"\x7fELF"
KDUMP = b"KDUMP   "
FLATTENED = b"makedumpfile\0\0\0\0"
SAVEVM = b"QEVM"
LIBVIRT, LIBVIRT_UNFINISHED = b"LibvirtQemudSave", b"LibvirtQemudPart"
VMWARE = (b"\xd2\xbe\xd2\xbe", b"\xd3\xbe\xd3\xbe", b"\xd1\xba\xd1\xba", b"\xd2\xba\xd2\xba")
"""A whole state, one without memory, one that was resumed, one that cannot be."""
VMWARE_OLD = (b"\xd0\xbe\xd2\xbe", b"\xd0\xbe\xd0\xbe")
"""Of products that knew no 64-bit guests (Workstation 4): sizes of blocks have 32 bits."""
VMWARE_MEMORY_SUFFIX = ".vmem"
PROBED = 64
"""Bytes of a zlib stream that must unpack well, and that tell what it holds."""
_DEFLATE = 8

_LIME_HEAD = struct.pack("<4sI", LIME, LIME_VERSION)
_AVML_HEAD = struct.pack("<4sI", AVML, AVML_VERSION)


class Format(NamedTuple):
    """`module`: of this package. `recognizes` looks at the head and the name of a file only."""

    module: str
    recognizes: Callable[[ImageFile], bool]

    def open_file(self, file: ImageFile) -> PhysicalImage:
        """The memory that a file of this format holds. ImageError or OSError; the caller closes the file
        then."""
        module = import_module(f"hybridbridge_vol.memory_image.{self.module}")
        image: PhysicalImage = module.open_file(file)
        return image


def is_lime(head: bytes) -> bool:
    """Whether a file that begins with `head` is a LiME file."""
    return head.startswith(_LIME_HEAD)


def _is_vmware(file: ImageFile) -> bool:
    return file.path.suffix.lower() == VMWARE_MEMORY_SUFFIX or file.head.startswith(VMWARE + VMWARE_OLD)


def _is_zlib(file: ImageFile) -> bool:
    """A zlib header (RFC 1950, 2.2: method, window of at most 32 KiB, check bits) of a stream that begins
    well: two bytes alone prove little."""
    if len(file.head) < 2 or file.head[0] & 15 != _DEFLATE or file.head[0] >> 4 > 7:
        return False
    if int.from_bytes(file.head[:2], "big") % 31:
        return False
    try:
        return len(zlib.decompressobj().decompress(file.head, PROBED)) == PROBED
    except zlib.error:
        return False


FORMATS: tuple[Format, ...] = (
    Format("lime", lambda file: is_lime(file.head)),
    Format("elf_core", lambda file: file.head.startswith(ELF)),
    Format("kdump", lambda file: file.head.startswith(KDUMP)),
    Format("flattened", lambda file: file.head.startswith(FLATTENED)),
    Format("avml", lambda file: file.head.startswith(_AVML_HEAD)),
    Format("savevm", lambda file: file.head.startswith(SAVEVM)),
    Format("libvirt_save", lambda file: file.head.startswith((LIBVIRT, LIBVIRT_UNFINISHED))),
    Format("vmware", _is_vmware),
    Format("lime_zlib", _is_zlib),
    Format("raw", lambda _file: True),
)
"""The first that recognizes a file opens it; raw recognizes every file."""
