"""Host mappings and guest-physical memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, UnmappedPhysical, page_up


def test_writing_to_a_private_mapping_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 8192)
    with open(path, "rb") as stream:
        mapping = HostMapping.private_file(stream.fileno(), 4096, 4096)
    mapping.view[:3] = b"xyz"
    assert path.read_bytes() == b"a" * 8192
    mapping.discard_writes()
    assert bytes(mapping.view[:3]) == b"aaa"


def test_anonymous_memory_is_zero_again_after_discarding() -> None:
    mapping = HostMapping.anonymous(8192)
    mapping.view[5000] = 7
    mapping.discard_writes()
    assert mapping.view[5000] == 0


def test_memory_is_found_where_it_was_placed() -> None:
    memory = PhysicalMemory()
    memory.place(0x10000, HostMapping.anonymous(4096))
    memory.place(0x1000, HostMapping.anonymous(4096))
    memory.write(0x10FF0, b"sixteen bytes !!")
    assert memory.read(0x10FF0, 16) == b"sixteen bytes !!"
    memory.write_u64(0x1000, 0x1122334455667788)
    assert memory.read_u64(0x1000) == 0x1122334455667788
    assert [paddr for paddr, _mapping in memory.regions()] == [0x1000, 0x10000]


@pytest.mark.parametrize("paddr", [0, 0xFFF, 0x1FFC, 0x2000, 1 << 45])
def test_an_access_outside_or_over_an_edge_is_refused(paddr: int) -> None:
    memory = PhysicalMemory()
    memory.place(0x1000, HostMapping.anonymous(4096))
    with pytest.raises(UnmappedPhysical):
        memory.read(paddr, 8)


def test_rounding_up_to_pages() -> None:
    assert [page_up(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
