"""Page tables: walking existing ones, building our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.machine import paging

PAGE = 4096


class Memory:
    """Sparse 64-bit words, and an allocator of table pages above 1 MiB."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.next_page = 1 << 20

    def read(self, paddr: int) -> int:
        return self.words.get(paddr, 0)

    def write(self, paddr: int, value: int) -> None:
        self.words[paddr] = value

    def allocate(self) -> int:
        self.next_page += PAGE
        return self.next_page


def builder(memory: Memory, levels: int = 4) -> paging.TableBuilder:
    return paging.TableBuilder(PAGE, levels, memory.read, memory.write, memory.allocate)


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("shift", [12, 21, 30])
def test_what_was_mapped_is_found_with_its_offset_and_flags(levels: int, shift: int) -> None:
    memory = Memory()
    vaddr, paddr = 0xFFFF_8880_0000_0000, 0x40_0000_0000
    builder(memory, levels).map_page(vaddr, paddr, paging.WRITABLE | paging.NO_EXECUTE, shift)
    found = paging.walk(memory.read, PAGE, vaddr + 0x123, levels)
    assert found is not None
    assert (found.paddr, found.shift) == (paddr + 0x123, shift)
    assert found.entry & paging.NO_EXECUTE
    assert bool(found.entry & paging.LARGE) == (shift > 12)


def test_what_was_not_mapped_is_not_found() -> None:
    memory = Memory()
    builder(memory).map_page(0xFFFF_8880_0000_0000, 0x1000_0000, 0)
    assert paging.walk(memory.read, PAGE, 0xFFFF_8880_0000_1000, 4) is None
    assert paging.walk(memory.read, PAGE, 0x1000, 4) is None


def test_two_pages_of_one_table_share_it() -> None:
    memory = Memory()
    tables = builder(memory)
    tables.map_page(0x20_0000, 0x1000, 0)
    before = memory.next_page
    tables.map_page(0x20_1000, 0x2000, 0)
    assert memory.next_page == before


def test_what_was_mapped_since_a_moment_is_mapped_again_when_tables_of_others_went_back_to_it() -> None:
    memory = Memory()
    memory.write(PAGE + 8 * 511, 0x9000 | paging.PRESENT)  # others' own table of the second level
    before = dict(memory.words)
    tables = builder(memory)
    vaddrs = [0xFFFF_FF80_0000_1000, 0xFFFF_8880_0000_0000, 0xFFFF_8880_0020_0000]
    for paddr, vaddr in enumerate(vaddrs, 16):
        tables.map_page(vaddr, paddr * PAGE, 0)
    made = memory.next_page
    for slot in [slot for slot in memory.words if slot < 1 << 20]:
        memory.words[slot] = before.get(slot, 0)
    assert [tables.translate(vaddr) for vaddr in vaddrs] == [None, None, None]
    tables.link_again()
    found = [tables.translate(vaddr) for vaddr in vaddrs]
    assert [one and one.paddr for one in found] == [16 * PAGE, 17 * PAGE, 18 * PAGE]
    assert memory.next_page == made


def test_entries_that_others_have_made_are_left_alone() -> None:
    memory = Memory()
    memory.write(PAGE + 8 * 511, 0x9000 | paging.PRESENT)
    tables = builder(memory)
    vaddrs = [0xFFFF_FF80_0000_1000, 0xFFFF_8880_0000_0000]
    for vaddr in vaddrs:
        tables.map_page(vaddr, 16 * PAGE, 0)
    theirs = {PAGE + 8 * (vaddrs[1] >> 39 & 511): 0xA000 | paging.PRESENT, PAGE + 8 * 511: 0}
    memory.words |= theirs
    before = dict(memory.words)
    tables.link_again()
    assert memory.words == before


@given(st.integers(0, (1 << 64) - 1), st.dictionaries(st.integers(0, 1 << 20), st.integers(0, (1 << 64) - 1)))
def test_walking_hostile_tables_ends(vaddr: int, words: dict[int, int]) -> None:
    found = paging.walk(lambda paddr: words.get(paddr & 0xFFFFF, 0x1234567), PAGE, vaddr, 4)
    assert found is None or found.shift in (12, 21, 30)


def test_a_table_that_points_to_itself_is_walked_once_a_level() -> None:
    reads = []

    def read(paddr: int) -> int:
        reads.append(paddr)
        return PAGE | paging.PRESENT

    found = paging.walk(read, PAGE, 0xFFFF_FFFF_FFFF_F000, 4)
    assert found is not None
    assert len(reads) == 4


@given(st.integers(0, 1 << 48), st.integers(0, 100_000))
def test_pieces_of_a_range_never_cross_a_page(vaddr: int, size: int) -> None:
    pieces = list(paging.pages(vaddr, size))
    assert sum(length for _start, length in pieces) == size
    assert all(start // PAGE == (start + length - 1) // PAGE for start, length in pieces)


def test_canonical_addresses() -> None:
    assert paging.canonical(0x7FFF_FFFF_FFFF)
    assert paging.canonical(0xFFFF_8000_0000_0000)
    assert not paging.canonical(0x8000_0000_0000)
    assert paging.canonical(0x8000_0000_0000, levels=5)
