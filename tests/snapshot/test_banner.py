"""The version line of a kernel: the likeliest of an image, and that of a kernel whose address is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from kdump_writer import PAGE, kdump, packed

from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.banner import KERNEL_SIZE, banner_behind, scan_banners, text_places

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


def test_a_line_with_the_rest_of_another_behind_it_is_no_other_kernel(tmp_path: Path) -> None:
    """A buffer of a program that read /proc/version held a longer line before."""
    rest = LINE.rstrip() + b"6)\n"
    (tmp_path / "dump.raw").write_bytes((rest + LINE + rest + OTHER).ljust(8 * MIB, b"\0"))
    with open_image(tmp_path / "dump.raw") as image:
        assert scan_banners(image) == [(LINE.decode().strip(), 3), (OTHER.decode().strip(), 1)]


@pytest.mark.parametrize("paddr", [0, 4 * MIB, KERNEL_SIZE, 1 << 46, 1 << 64, -(1 << 40)])
def test_an_address_that_leads_nowhere_has_none(tmp_path: Path, paddr: int) -> None:
    (tmp_path / "dump.raw").write_bytes(bytes(8 * MIB))
    with open_image(tmp_path / "dump.raw") as image:
        assert banner_behind(image, paddr) is None


def test_a_dump_that_lacks_pages_names_its_kernel(tmp_path: Path) -> None:
    """As every dump of kdump's with a dump level does."""
    page = packed(LINE.ljust(PAGE, b"\0"))
    stored = {number: packed(bytes(PAGE)) for number in range(0, 1024, 2)} | {301: page}
    (tmp_path / "vmcore").write_bytes(kdump(stored, present=range(1024), level=31))
    with open_image(tmp_path / "vmcore") as image:
        assert scan_banners(image) == [(LINE.decode().strip(), 1)]
        assert list(text_places(image, "Linux version")) == [301 * PAGE]
        assert banner_behind(image, 0) == LINE.decode().strip()


def test_pages_that_are_not_there_are_padded_with_zeros(tmp_path: Path) -> None:
    stored = {number: packed(b"a" * PAGE) for number in range(1024) if number != 7}
    (tmp_path / "vmcore").write_bytes(kdump(stored, present=[7]))
    with open_image(tmp_path / "vmcore") as image:
        assert image.read_padded(7 * PAGE - 2, PAGE + 4) == b"aa" + bytes(PAGE) + b"aa"
        assert image.read_padded(7 * PAGE + 5, 3) == bytes(3)
        assert image.read_padded(1 << 46, 5) == bytes(5)
        assert image.read_padded(0, PAGE) == b"a" * PAGE


@pytest.mark.parametrize("forged", ["present", "stored"])
def test_bitmaps_that_claim_an_ocean_of_pages_are_not_believed(tmp_path: Path, forged: str) -> None:
    """512 GiB in a file of 32 MiB, which has pages of 4 MiB only."""
    stored = {number: packed(bytes(PAGE)) for number in range(1024)}
    stored[301] = packed(LINE.ljust(PAGE, b"\0"))
    data = bytearray(kdump(stored, present=[(1 << 27) - 1]))
    size = (1 << 27) // 8
    at = 2 * PAGE + (size if forged == "stored" else 0)
    data[at + 1024 // 8 : at + size] = b"\xff" * (size - 1024 // 8)
    (tmp_path / "vmcore").write_bytes(data)
    with open_image(tmp_path / "vmcore") as image:
        assert image.memory_size == 512 << 30
        assert scan_banners(image) == [(LINE.decode().strip(), 1)]
