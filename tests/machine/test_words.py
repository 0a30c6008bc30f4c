"""Words of kernel objects, also where the pages behind them are not mapped."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import WRITABLE, TableBuilder
from hybridbridge_vol.machine.words import read_mapped, read_padded, read_words
from hybridbridge_vol.units import PAGE_SIZE

PAGES = 0xFFFF_8880_0010_0000
"""Three pages; the one in the middle is free, which CONFIG_DEBUG_PAGEALLOC takes out of the page tables."""
LAST = PAGES + PAGE_SIZE - 16


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    machine = Machine()
    machine.place(0, HostMapping.anonymous(1 << 20))
    memory, free = machine.memory, iter(range(0x2000, 0xC000, 0x1000))
    tables = TableBuilder(0x1000, 4, memory.read_u64, memory.write_u64, lambda: next(free))
    for number in (0, 2):
        tables.map_page(PAGES + number * PAGE_SIZE, 0x10000 + number * PAGE_SIZE, WRITABLE)
    machine.write_register("CR3", 0x1000)
    machine.write(LAST, struct.pack("<QQ", 1, 2))
    machine.write(PAGES + 2 * PAGE_SIZE, struct.pack("<Q", 3))
    yield machine
    machine.release()


def test_an_object_is_read_up_to_the_first_page_that_is_not_mapped(machine: Machine) -> None:
    assert read_words(machine, LAST, 64) == [1, 2]
    assert read_words(machine, LAST + 4, 64) == [2 << 32]
    assert read_mapped(machine, LAST, 8) == struct.pack("<Q", 1)
    assert read_mapped(machine, PAGES + PAGE_SIZE, 64) == b""


def test_what_lies_around_an_object_has_zeros_for_pages_that_are_not_mapped(machine: Machine) -> None:
    around = read_padded(machine, LAST, 16 + PAGE_SIZE + 8)
    assert around == struct.pack("<QQ", 1, 2) + bytes(PAGE_SIZE) + struct.pack("<Q", 3)
