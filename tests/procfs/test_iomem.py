"""/proc/iomem: which physical memory the guest's kernel says it has."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.iomem import Resource, memory_of, parse_iomem

TEXT = b"""\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-0ffdffff : System RAM
  05200000-06001ef1 : Kernel code
  0a000000-0bffffff : Crash kernel
0ffe0000-0fffffff : Reserved
100000000-13fffffff : virtio0
  100000000-13fffffff : virtio_mem
    100000000-11fffffff : System RAM (virtio_mem)
"""


def test_a_map_with_hot_plugged_memory() -> None:
    resources = parse_iomem(TEXT)
    assert resources[4] == Resource(0x0A000000, 0x0BFFFFFF, 1, "Crash kernel")
    assert memory_of(resources) == [
        Resource(0x1000, 0x9FBFF, 0, "System RAM"),
        Resource(0x100000, 0xFFDFFFF, 0, "System RAM"),
        Resource(0x100000000, 0x11FFFFFFF, 2, "System RAM (virtio_mem)"),
    ]


def test_a_map_whose_addresses_were_kept_from_the_reader_is_not_one_without_memory() -> None:
    with pytest.raises(ParseError, match="no addresses"):
        parse_iomem(b"00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n")


names = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)
resources = st.builds(
    lambda start, size, depth, name: Resource(start, start + size, depth, name),
    st.integers(0, 1 << 52), st.integers(1, 1 << 52), st.integers(0, 4), names,
)  # fmt: skip


@given(st.lists(resources, min_size=1))
def test_what_the_kernel_writes_is_parsed_back(tree: list[Resource]) -> None:
    lines = [f"{' ' * 2 * one.depth}{one.start_paddr:08x}-{one.last_paddr:08x} : {one.name}" for one in tree]
    assert parse_iomem("\n".join(lines).encode()) == tree


@given(st.lists(resources))
def test_no_memory_is_counted_twice(tree: list[Resource]) -> None:
    found = memory_of(tree)
    assert all(first.last_paddr < second.start_paddr for first, second in itertools.pairwise(found))


@given(st.binary())
def test_other_text_is_an_error(data: bytes) -> None:
    try:
        parse_iomem(data)
    except ParseError as error:
        assert "iomem" in str(error)
