"""What `virsh save` writes: a header, the guest's description as XML, and QEMU's saved state (libvirt:
src/qemu/qemu_saveimage.h, `struct _virQEMUSaveHeader`).

The header is a magic of 16 bytes and numbers of 32 bits in the byte order of the host: version, bytes of the
description, whether the guest was running, format, where a part of the description begins; then 56 bytes
that are reserved. The format is one of `_FORMATS` by its number (qemu_saveimage.c, `qemuSaveFormat`).
"""

from __future__ import annotations

import shlex
import struct

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.formats import LIBVIRT_UNFINISHED, SAVEVM
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.memory_image.savevm import parse_savevm

_HEADER = struct.Struct("<16sIIIII56x")
_NEWEST_VERSION = 2
_RAW, _SPARSE = "raw", "sparse"
_FORMATS = (_RAW, "gzip", "bzip2", "xz", "lzop", "zstd", _SPARSE)
_DUMP = "restore the guest and write its memory with 'virsh dump --memory-only'"


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    start = state_offset(file.source)
    source = file.source

    def read_at(offset: int, size: int) -> bytes:
        return source.read_at(start + offset, size) if offset >= 0 else b""

    state = Source(source.name, source.size - start, read_at, source.progress)
    return PhysicalImage(file, parse_savevm(state, "libvirt (QEMU savevm)"))


def state_offset(source: Source) -> int:
    """The file offset of QEMU's saved state. ImageError if it is not there as it is."""
    head = source.read_at(0, _HEADER.size)
    if head.startswith(LIBVIRT_UNFINISHED):
        raise ImageError(f"{source.name}: libvirt had not finished saving this guest; save it again")
    if len(head) < _HEADER.size:
        raise ImageError(f"{source.name}: truncated: the header of a guest saved by libvirt is not all there")
    _magic, version, size, _running, number, _cookie = _HEADER.unpack(head)
    start: int = _HEADER.size + size
    form = _RAW if version < _NEWEST_VERSION else _FORMATS[number] if number < len(_FORMATS) else None
    if version > _NEWEST_VERSION or form is None:
        raise ImageError(f"{source.name}: a guest saved by libvirt in an unknown form; {_DUMP}")
    if form == _SPARSE:
        raise ImageError(
            f"{source.name}: a guest saved by libvirt as a sparse file, which is not read; {_DUMP}"
        )
    if form != _RAW:
        raise ImageError(
            f"{source.name}: a guest saved by libvirt, compressed with {form}; unpack QEMU's state first: "
            f"tail -c +{start + 1} {shlex.quote(source.name)} | {form} -dc > state.qevm"
        )
    if source.read_at(start, len(SAVEVM)) != SAVEVM:
        raise ImageError(f"{source.name}: a guest saved by libvirt, damaged: QEMU's state is not in it")
    return start
