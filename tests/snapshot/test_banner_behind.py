"""The version line of a kernel whose address is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.banner import KERNEL_SIZE, banner_behind

MIB = 1 << 20
LINE = (
    b"Linux version 6.1.0-57-cloud-amd64 (somebody@example) (gcc 12) #1 SMP Debian 6.1.192-3 (2026-11-26)\n"
)
OTHER = LINE.replace(b"6.1.0-57", b"6.9.0")


@pytest.mark.parametrize("at", [0, 5 * MIB + 7, 16 * MIB - 9, 32 * MIB - len(LINE)])
def test_the_first_one_behind_the_text_is_taken(tmp_path: Path, at: int) -> None:
    memory = bytearray(48 * MIB)
    for place, line in ((0, OTHER), (8 * MIB + at, LINE), (46 * MIB, OTHER)):
        memory[place : place + len(line)] = line
    (tmp_path / "dump.raw").write_bytes(memory)
    with open_image(tmp_path / "dump.raw") as image:
        assert banner_behind(image, 8 * MIB) == LINE.decode().strip()
        assert banner_behind(image, 47 * MIB) is None


@pytest.mark.parametrize("paddr", [0, 4 * MIB, KERNEL_SIZE, 1 << 46, 1 << 64, -(1 << 40)])
def test_an_address_that_leads_nowhere_has_none(tmp_path: Path, paddr: int) -> None:
    (tmp_path / "dump.raw").write_bytes(bytes(8 * MIB))
    with open_image(tmp_path / "dump.raw") as image:
        assert banner_behind(image, paddr) is None
