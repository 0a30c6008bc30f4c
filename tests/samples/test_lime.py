"""Images written as LiME are those that the engine reads."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from hybridbridge_vol.memory_image.open import open_image
from samples.lime import header, system_ram, write_lime
from samples.qemu import physical_ranges

MIB = 1 << 20


def test_a_header_has_the_first_and_the_last_address() -> None:
    magic, version, first, last, reserved = struct.unpack("<IIQQ8s", header(0x100000, 0x1000))
    assert (magic.to_bytes(4, "big"), version, reserved) == (b"LiME", 1, bytes(8))
    assert (first, last) == (0x100000, 0x100FFF)


def test_an_empty_range_has_no_header() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        header(0, 0)


def test_a_raw_image_comes_back_out_of_its_lime(tmp_path: Path) -> None:
    memory = os.urandom(5 * MIB + 123)
    (tmp_path / "dump.raw").write_bytes(memory)
    ranges = [(0, 0x9F000), (MIB, 3 * MIB), (4 * MIB + 5, MIB + 118)]
    write_lime(tmp_path / "dump.raw", ranges, tmp_path / "dump.lime")
    assert (tmp_path / "dump.lime").stat().st_size == sum(32 + size for _paddr, size in ranges)
    with open_image(tmp_path / "dump.lime") as image:
        assert image.format_name == "LiME"
        assert [(run.paddr, run.size) for run in image.runs] == ranges
        assert image.missing == ()
        for paddr, size in ranges:
            assert image.read(paddr, size) == memory[paddr : paddr + size]
        assert image.read_available(0x9F000, 1) is None
        assert image.read_available(4 * MIB, 1) is None


def test_what_a_machine_calls_system_ram_is_its_memory_without_the_firmware_s() -> None:
    assert system_ram(256 * MIB) == [(0, 0x9F000), (MIB, 255 * MIB)]
    assert system_ram(4608 * MIB) == [(0, 0x9F000), (MIB, 3071 * MIB), (4096 * MIB, 1536 * MIB)]


@pytest.mark.parametrize("ram", [256 * MIB, 3072 * MIB, 3073 * MIB, 8192 * MIB])
def test_memory_beyond_3_gib_continues_at_4_gib(ram: int) -> None:
    ranges = physical_ranges(ram)
    assert sum(size for _paddr, size, _offset in ranges) == ram
    assert all(paddr + size <= 3 << 30 or paddr >= 4 << 30 for paddr, size, _offset in ranges)
