"""Executable memory by page tables, which may be forged."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridbridge_vol.bridge.objects.executable_pages import MAX_RANGES, ExecutableRange, executable_ranges
from hybridbridge_vol.machine.paging import LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout

ROOT, UPPER, MIDDLE, LAST = (0x1000 * number for number in (1, 2, 3, 4))
SIZE = 4 << 20
VADDR = 0xFFFF_8000_0000_0000


def layout(levels: int = 4) -> SnapshotLayout:
    return SnapshotLayout(0, VADDR, 0, 0, ROOT, levels, VADDR, VADDR, VADDR, range(0))


def image(path: Path, entries: dict[int, int]) -> PhysicalImage:
    """A raw image of zeros with these words at physical addresses."""
    data = bytearray(SIZE)
    for paddr, entry in entries.items():
        struct.pack_into("<Q", data, paddr, entry)
    (path / "dump.raw").write_bytes(data)
    return open_image(path / "dump.raw")


CHAIN = {ROOT + 8 * 256: UPPER | PRESENT | WRITABLE, UPPER: MIDDLE | PRESENT | WRITABLE}
"""From the first entry of the kernel's half to a table of large pages."""


def ranges(path: Path, entries: dict[int, int], levels: int = 4) -> list[ExecutableRange]:
    with image(path, entries) as found:
        return list(executable_ranges(found, layout(levels)))


def test_pages_of_one_kind_that_follow_one_another_are_one_range(tmp_path: Path) -> None:
    entries = CHAIN | {
        MIDDLE: LAST | PRESENT | WRITABLE,
        LAST: PRESENT,
        LAST + 8: PRESENT,
        LAST + 16: PRESENT | WRITABLE,
        LAST + 24: PRESENT | NO_EXECUTE,
        MIDDLE + 8: LARGE | PRESENT,
    }
    assert ranges(tmp_path, entries) == [
        (VADDR, 0x2000, False), (VADDR + 0x2000, 0x1000, True), (VADDR + (2 << 20), 2 << 20, False),
    ]  # fmt: skip


@pytest.mark.parametrize("bits", [NO_EXECUTE, USER])
def test_what_the_kernel_cannot_execute_is_left_out(tmp_path: Path, bits: int) -> None:
    assert ranges(tmp_path, CHAIN | {MIDDLE: LARGE | PRESENT | bits}) == []


def test_a_table_above_decides_too(tmp_path: Path) -> None:
    entries = {ROOT + 8 * 256: UPPER | PRESENT, UPPER: LARGE | PRESENT | WRITABLE}
    assert ranges(tmp_path, entries) == [(VADDR, 1 << 30, False)]
    assert ranges(tmp_path, {**entries, ROOT + 8 * 256: UPPER | PRESENT | NO_EXECUTE}) == []


def test_the_half_of_processes_is_left_out(tmp_path: Path) -> None:
    entries = {ROOT: UPPER | PRESENT, UPPER: LARGE | PRESENT}
    assert ranges(tmp_path, entries) == []


def test_five_levels(tmp_path: Path) -> None:
    entries = CHAIN | {MIDDLE: LAST | PRESENT, LAST: LARGE | PRESENT}
    assert ranges(tmp_path, entries, levels=5) == [(0xFF00 << 48, 2 << 20, False)]


def forged() -> Iterator[tuple[str, dict[int, int]]]:
    every = range(ROOT, ROOT + 0x1000, 8)
    yield "tables that lead to themselves", {at: ROOT | PRESENT for at in every}
    yield "tables that are not in the image", {at: 1 << 40 | PRESENT for at in every}


@pytest.mark.parametrize("entries", [pytest.param(entries, id=name) for name, entries in forged()])
def test_forged_tables_end(tmp_path: Path, entries: dict[int, int]) -> None:
    assert len(ranges(tmp_path, entries)) <= MAX_RANGES
