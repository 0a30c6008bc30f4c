"""Walking a snapshot's page tables, which are read page by page and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import MAX_TABLES, MIN_IMAGE_SIZE
from hybridbridge_vol.units import PAGE_SIZE


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A raw image whose 64-bit words are their own physical addresses; its last page is cut short."""
    path = tmp_path / "numbered.raw"
    size = max(MIN_IMAGE_SIZE, (MAX_TABLES + 8) * PAGE_SIZE) + 16
    path.write_bytes(b"".join(paddr.to_bytes(8, "little") for paddr in range(0, size, 8)))
    return path


def test_an_entry_is_the_word_at_its_physical_address(numbered: Path) -> None:
    with open_image(numbered) as image:
        assert [image.table_entry(paddr) for paddr in (0, 8, 4096, 4088)] == [0, 8, 4096, 4088]


def test_entries_of_more_tables_than_are_kept_are_still_right(numbered: Path) -> None:
    with open_image(numbered) as image:
        for _again in range(2):
            for paddr in range(16, (MAX_TABLES + 4) * PAGE_SIZE, PAGE_SIZE):
                assert image.table_entry(paddr) == paddr


def test_an_entry_behind_the_image_is_absent_and_one_in_a_page_cut_short_is_not(numbered: Path) -> None:
    with open_image(numbered) as image:
        end = numbered.stat().st_size
        assert image.table_entry(end - 8) == end - 8
        assert image.table_entry(end) is None
        assert image.table_entry(1 << 51) is None
