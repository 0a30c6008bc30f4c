"""Reading much virtual memory gives what reading it page by page gives, and says what is absent."""

from __future__ import annotations

import random

import pytest
from generations import Lab
from guest_modules import loaded

from hybridbridge_vol.snapshot.bulk_reader import BulkReader
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.units import PAGE_SIZE

READS = 200
LONGEST = 20 * PAGE_SIZE


def absent_pages(memory: VirtualMemory, vaddr: int, size: int) -> list[int]:
    """Offsets of the first bytes of the pages that are not there."""
    starts = [0, *range(PAGE_SIZE - vaddr % PAGE_SIZE, size, PAGE_SIZE)]
    places = ((start, memory.translate(vaddr + start)) for start in starts)
    return [
        start
        for start, place in places
        if place is None or memory.image.read_available(place.paddr, 1) is None
    ]


@pytest.mark.parametrize("name", ["5.10 nokaslr", "6.12"])
def test_bytes_and_absent_pages_are_those_of_single_pages(lab: Lab, name: str) -> None:
    session = lab.session(name)
    memory = session.bridge.virtual_memory
    reader = BulkReader(memory)
    layout = memory.layout
    bases = [layout.text_vaddr, layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base]
    bases += [vaddr for _name, vaddr in loaded(session)]
    draw = random.Random(name)
    absent = 0
    for _ in range(READS):
        vaddr, size = draw.choice(bases) + draw.randrange(1 << 22), draw.randrange(1, LONGEST)
        data, missing = reader.read(vaddr, size)
        assert bytes(data) == memory.read_padded(vaddr, size)
        assert missing == absent_pages(memory, vaddr, size)
        absent += len(missing)
    assert absent > 0
