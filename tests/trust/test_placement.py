"""The layout of a trusted kernel: random, and clear of the snapshot's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.kernel_file.region_constants import ALIGNMENT
from hybridbridge_vol.trust.placement import (
    FIXED_HOLE,
    GUARD_HOLES,
    KERNEL_ALIGN,
    KERNEL_IMAGE_SIZE,
    draw_layout,
    looks_like_other_words,
    looks_like_pointers,
    overlap,
)
from hybridbridge_vol.units import START_KERNEL_MAP

TEXT, SIZE = 0xFFFFFFFF81000000, 50 << 20


@given(st.integers(0, 400), st.integers(0, 1 << 30))
def test_the_kernel_stays_out_of_a_given_range(place: int, draw: int) -> None:
    avoid = (TEXT + place * KERNEL_ALIGN, TEXT + place * KERNEL_ALIGN + SIZE)
    layout = draw_layout(TEXT, TEXT + SIZE, avoid, _below(draw))
    start = TEXT + layout.kernel_delta
    assert START_KERNEL_MAP <= start
    assert start + SIZE <= START_KERNEL_MAP + KERNEL_IMAGE_SIZE
    assert start % KERNEL_ALIGN == 0
    assert not overlap(start, start + SIZE, *avoid)


@given(st.integers(0, 1 << 30), st.sampled_from([4, 5]))
def test_the_regions_are_in_order_in_the_guard_hole(draw: int, levels: int) -> None:
    layout = draw_layout(TEXT, TEXT + SIZE, None, _below(draw), levels)
    bases = [layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base]
    assert bases == sorted(set(bases))
    assert all(base in layout for base in bases)
    assert all(base % (1 << 32) >= 1 << 30 for base in bases)  # no address in them ends like a small number
    assert all(base in GUARD_HOLES[levels] for base in bases)


@given(st.integers(0, 1 << 30))
def test_regions_that_are_constants_of_the_code_are_aligned_as_they_were_linked(draw: int) -> None:
    layout = draw_layout(TEXT, TEXT + SIZE, None, _below(draw), fixed_steps=ALIGNMENT)
    bases = [layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base]
    assert bases == sorted(set(bases))
    assert all(base % step == 0 for base, step in zip(bases, ALIGNMENT, strict=True))
    assert layout.guard_hole == FIXED_HOLE
    assert all(base in layout for base in bases)


@given(st.integers(0, 1 << 30))
def test_a_kernel_stays_in_what_it_maps_of_itself(draw: int) -> None:
    mapped = 512 << 20
    layout = draw_layout(TEXT, TEXT + SIZE, (TEXT, TEXT + SIZE), _below(draw), mapped_size=mapped)
    assert TEXT + layout.kernel_delta + SIZE <= START_KERNEL_MAP + mapped
    with pytest.raises(ValueError, match="no room"):
        draw_layout(TEXT, TEXT + SIZE, (TEXT - mapped, TEXT + mapped), _below(draw), mapped_size=mapped)


@given(st.integers(0, 1 << 30), st.sampled_from([512 << 20, 1 << 30]))
def test_a_kernel_lies_where_its_addresses_look_like_no_other_words(draw: int, mapped: int) -> None:
    avoid = (TEXT + (64 << 20), TEXT + (64 << 20) + SIZE)
    start = TEXT + draw_layout(TEXT, TEXT + SIZE, avoid, _below(draw), mapped_size=mapped).kernel_delta
    others = (-0x72000000, -0x54800001, -0x48000000, -1, TEXT - (1 << 64), TEXT + SIZE - 1 - (1 << 64))
    # minus the seconds of 2030 and 2015; bytes of `mov $-1, %eax`; addresses as they were linked
    assert not any(start <= word + (1 << 64) < start + SIZE for word in others)
    assert not looks_like_other_words(range(start, start + SIZE), range(TEXT, TEXT + SIZE))


def test_a_kernel_that_fits_nowhere_else_lies_there_nevertheless() -> None:
    avoid = (START_KERNEL_MAP, 0xFFFFFFFF8E000000)
    start = TEXT + draw_layout(TEXT, TEXT + SIZE, avoid, mapped_size=512 << 20).kernel_delta
    assert looks_like_other_words(range(start, start + SIZE), range(TEXT, TEXT + SIZE))


def pointers_read_two_bytes_too_early(text: range) -> list[int]:
    words = (text.start.to_bytes(8, "little"), (text.stop - 1).to_bytes(8, "little"))
    return [int.from_bytes(lower + word[:6], "little") for word in words for lower in (b"\0\0", b"\xff\xff")]


@given(st.integers(0, 1 << 30), st.sampled_from([0, 32 << 20, 80 << 20]), st.sampled_from([0, 64 << 20]))
def test_no_address_of_memory_looks_like_a_part_of_a_pointer_to_the_snapshots_text(
    draw: int, shift: int, margin: int
) -> None:
    text = range(TEXT + shift, TEXT + shift + SIZE)
    avoid = (text.start - margin, text.stop + margin)
    layout = draw_layout(TEXT, TEXT + SIZE, avoid, _below(draw))
    low, high = min(pointers_read_two_bytes_too_early(text)), max(pointers_read_two_bytes_too_early(text))
    for base in (layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base):
        slot = base & -(1 << 39)
        assert not overlap(slot, slot + (1 << 39), low, high)
        assert slot >> 32 != 0xFFFF8000  # pairs of 32-bit numbers of which the second is -32768
    assert not looks_like_pointers(layout, avoid, SIZE)


def test_a_layout_that_looks_like_pointers_to_a_snapshots_text_is_known() -> None:
    layout = draw_layout(TEXT, TEXT + SIZE)._replace(page_offset_base=0xFFFF_8123_4000_0000)
    assert looks_like_pointers(layout, (0xFFFF_FFFF_8120_0000, 0xFFFF_FFFF_8420_0000), 0x300_0000)
    assert looks_like_pointers(layout, (0xFFFF_FFFF_8020_0000, 0xFFFF_FFFF_8520_0000), 0x300_0000)
    assert not looks_like_pointers(layout, (0xFFFF_FFFF_9120_0000, 0xFFFF_FFFF_9420_0000), 0x300_0000)


def test_a_kernel_whose_text_looks_like_every_part_of_the_hole_lies_there_nevertheless() -> None:
    layout = draw_layout(TEXT, TEXT + (128 << 20), (TEXT, TEXT + (128 << 20)))
    assert layout.page_offset_base < layout.vmalloc_base < layout.vmemmap_base


def test_two_draws_differ() -> None:
    assert len({draw_layout(TEXT, TEXT + SIZE) for _ in range(20)}) > 15


def _below(seed: int):  # type: ignore[no-untyped-def]
    state = [seed]

    def below(limit: int) -> int:
        state[0] = (state[0] * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state[0] >> 33) % limit

    return below
