"""A raw image as an ELF core with VMCOREINFO, which drgn and crash ask for."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from hybridbridge_vol.elf_headers import (
    EM_X86_64,
    ET_CORE,
    HEADER,
    MAGIC,
    PROGRAM_HEADER,
    PT_LOAD,
    PT_NOTE,
)
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.units import PAGE_SIZE

_NOTE_HEAD = struct.Struct("<III")
_NAME = b"VMCOREINFO\0"
_READ_WRITE_EXECUTE = 7
_BLOCK = 4 << 20
_MOST_TEXT = PAGE_SIZE
"""Bytes of VMCOREINFO (VMCOREINFO_BYTES, include/linux/crash_core.h)."""


def find_note(image: BinaryIO) -> bytes:
    """The note that the guest's kernel keeps for kdump (`vmcoreinfo_note`, kernel/crash_core.c). It begins a
    page. ValueError if the image has none."""
    for block in iter(lambda: image.read(_BLOCK), b""):
        for start in range(0, len(block), PAGE_SIZE):
            name_size, size, _kind = _NOTE_HEAD.unpack_from(block, start)
            text = start + _NOTE_HEAD.size + 12
            if name_size == len(_NAME) and size < _MOST_TEXT and block[text : text + 10] == b"OSRELEASE=":
                return block[start : text + -(-size // 4) * 4]
    raise ValueError("the image has no VMCOREINFO")


def write_core(raw: Path, core: Path) -> None:
    """Write the core file, holes of the image as holes. ValueError if the image has no VMCOREINFO."""
    with open(raw, "rb") as source, open_image(raw) as image, open(core, "wb") as target:
        note = find_note(source)
        head_size = HEADER.size + PROGRAM_HEADER.size * (1 + len(image.runs))
        offset = -(-(head_size + len(note)) // PAGE_SIZE) * PAGE_SIZE
        segments = [PROGRAM_HEADER.pack(PT_NOTE, 0, head_size, 0, 0, len(note), len(note), 0)]
        for run in image.runs:
            segments.append(
                PROGRAM_HEADER.pack(
                    PT_LOAD, _READ_WRITE_EXECUTE, offset, 0, run.paddr, run.size, run.size, PAGE_SIZE
                )
            )
            _copy(source, run.offset, target, offset, run.size)
            offset += run.size
        header = HEADER.pack(
            (MAGIC + b"\x01").ljust(16, b"\0"), ET_CORE, EM_X86_64, 1, 0, HEADER.size, 0, 0,
            HEADER.size, PROGRAM_HEADER.size, len(segments), 0, 0, 0,
        )  # fmt: skip
        target.truncate(offset)
        target.seek(0)
        target.write(header + b"".join(segments) + note)


def _copy(source: BinaryIO, first: int, target: BinaryIO, to: int, size: int) -> None:
    """Copy what the source holds of `size` bytes from `first` on; its holes stay holes."""
    place, end = first, first + size
    while place < end:
        try:
            data = os.lseek(source.fileno(), place, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole follows
            return
        stop = min(end, os.lseek(source.fileno(), data, os.SEEK_HOLE))
        while data < stop:
            block = os.pread(source.fileno(), min(_BLOCK, stop - data), data)
            os.pwrite(target.fileno(), block, to + data - first)
            data += len(block)
        place = max(stop, data)
