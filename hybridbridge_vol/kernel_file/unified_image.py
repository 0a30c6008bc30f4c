"""Unified kernel images: a PE program for EFI (systemd-stub) with the kernel in a section `.linux`.

The UAPI Group's "Unified Kernel Image" specification; Microsoft's "PE Format" for the headers.
"""

from __future__ import annotations

import struct

from hybridbridge_vol.errors import KernelFileError

_DOS_MAGIC, _PE_OFFSET_AT, _PE_MAGIC = b"MZ", 0x3C, b"PE\0\0"
_BOOT_MAGIC_OFFSET, _BOOT_MAGIC = 0x202, b"HdrS"
_COFF = struct.Struct("<HHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_MAX_SECTIONS = 96
"""What a PE file may have for Windows to load it; an image has a dozen."""
_LINUX = b".linux"


def inner_kernel(data: bytes, name: str) -> bytes:
    """The kernel in a unified kernel image; `data` itself if it is not one. KernelFileError, naming the file
    `name`, if it is damaged."""
    if not data.startswith(_DOS_MAGIC) or data[_BOOT_MAGIC_OFFSET:][:4] == _BOOT_MAGIC:
        return data  # a vmlinuz is a PE program, too (CONFIG_EFI_STUB)
    for section, start, size in _sections(data):
        if section == _LINUX:
            if not size or start + size > len(data):
                raise KernelFileError(f"{name}: its section .linux is truncated; fetch it again")
            return data[start : start + size]
    return data


def _sections(data: bytes) -> list[tuple[bytes, int, int]]:
    """`(name, offset, size)` of the sections of a PE file, as far as the file has them; none if it is not
    one. A section in memory may be smaller than in the file, where it is padded."""
    if len(data) < _PE_OFFSET_AT + 4:
        return []
    (at,) = struct.unpack_from("<I", data, _PE_OFFSET_AT)
    if data[at : at + 4] != _PE_MAGIC or at + 4 + _COFF.size > len(data):
        return []
    _machine, count, _time, _symbols, _number, optional_size, _flags = _COFF.unpack_from(data, at + 4)
    table = at + 4 + _COFF.size + optional_size
    found = []
    for number in range(min(count, _MAX_SECTIONS)):
        place = table + number * _SECTION.size
        if place + _SECTION.size > len(data):
            break
        section, in_memory, _vaddr, in_file, start, *_rest = _SECTION.unpack_from(data, place)
        found.append((section.rstrip(b"\0"), start, min(in_memory, in_file) or in_file))
    return found
