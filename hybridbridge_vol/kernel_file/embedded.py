"""A kernel that is carried inside of another ELF, as libkrunfw does: an object of data in a shared library.

libkrunfw (bin2cbundle.py) stores the kernel's segments as they lie in memory, without headers, in the object
`KERNEL_BUNDLE`. Nothing depends on that name: every large object that the library names is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hybridbridge_vol.elf_headers import SHT_DYNSYM, SHT_SYMTAB
from hybridbridge_vol.kernel_file.symbol_files import elf_objects

_SMALLEST = 1 << 20
"""Bytes of an object that can be a kernel."""
_MOST_OBJECTS = 16
_BANNER = b"Linux version "


def is_flat_kernel(data: bytes) -> bool:
    """Whether bytes can be a kernel as it lies in memory: its banner is somewhere in them."""
    return len(data) >= _SMALLEST and _BANNER in data


def embedded_objects(data: bytes) -> Iterator[bytes]:
    """The large objects of data that an ELF names, largest first."""
    found: set[tuple[int, int]] = set()
    for kind in (SHT_DYNSYM, SHT_SYMTAB):
        try:
            found.update(item for item in elf_objects(data, kind) if item[1] >= _SMALLEST)
        except (struct.error, IndexError):
            continue
    for offset, size in sorted(found, key=lambda item: -item[1])[:_MOST_OBJECTS]:
        yield data[offset : offset + size]
