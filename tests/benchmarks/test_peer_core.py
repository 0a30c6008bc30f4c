"""The ELF core that drgn and crash are given is the raw image, with the kernel's own VMCOREINFO."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from benchmarks.peers.elf_core import write_core
from hybridbridge_vol.memory_image.open import open_image

SIZE, NOTE_AT, DATA_AT = 64 << 20, 5 << 12, 40 << 20
TEXT = b"OSRELEASE=6.1.0\nKERNELOFFSET=1000000\n"
NOTE = struct.pack("<III", 11, len(TEXT), 0) + b"VMCOREINFO\0\0" + TEXT.ljust(40, b"\0")


def raw_image(folder: Path, note: bytes) -> Path:
    path = folder / "dump.raw"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for place, data in ((0x1000, b"OSRELEASE=%s\n"), (NOTE_AT, note), (DATA_AT, b"memory")):
            file.seek(place)
            file.write(data)
    return path


def test_the_core_has_the_same_memory_and_the_kernels_note(tmp_path: Path) -> None:
    raw, core = raw_image(tmp_path, NOTE), tmp_path / "core"
    write_core(raw, core)
    assert NOTE in core.read_bytes()[:4096]
    with open_image(core) as image, open(raw, "rb") as expected:
        assert [(run.paddr, run.size) for run in image.runs] == [(0, SIZE)]
        assert image.read(0, SIZE) == expected.read()
    assert os.stat(core).st_blocks * 512 < SIZE // 2  # a hole stays one


def test_an_image_without_the_note_gives_no_core(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no VMCOREINFO"):
        write_core(raw_image(tmp_path, b"nothing"), tmp_path / "core")
