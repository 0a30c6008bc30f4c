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
    others = (-0x72000000, -0x5E000001, -0x48000000, -1, TEXT - (1 << 64), TEXT + SIZE - 1 - (1 << 64))
    # minus the seconds of 2030 and 2020; bytes of `mov $-1, %eax`; addresses as they were linked
    assert not any(start <= word + (1 << 64) < start + SIZE for word in others)
    assert not looks_like_other_words(range(start, start + SIZE), range(TEXT, TEXT + SIZE))


def test_a_kernel_that_fits_nowhere_else_lies_there_nevertheless() -> None:
    avoid = (START_KERNEL_MAP, 0xFFFFFFFF8E000000)
    start = TEXT + draw_layout(TEXT, TEXT + SIZE, avoid, mapped_size=512 << 20).kernel_delta
    assert looks_like_other_words(range(start, start + SIZE), range(TEXT, TEXT + SIZE))


def test_two_draws_differ() -> None:
    assert len({draw_layout(TEXT, TEXT + SIZE) for _ in range(20)}) > 15


def _below(seed: int):  # type: ignore[no-untyped-def]
    state = [seed]

    def below(limit: int) -> int:
        state[0] = (state[0] * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state[0] >> 33) % limit

    return below
