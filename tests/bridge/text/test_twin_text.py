"""The twin text: relocation, patches, references that stay at home, page edges."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.memo import Proven
from hybridbridge_vol.bridge.text.twin_text import (
    HomeFields,
    Patch,
    Sites,
    TwinText,
    relocation_sites,
)

PAGE = 4096


def assembled(twin: TwinText, pages: int) -> bytes:
    return b"".join(bytes(twin.page(i * PAGE)) for i in range(pages))


@given(
    st.lists(st.integers(0, 3 * PAGE // 8 - 1), unique=True),
    st.integers(-(1 << 30), 1 << 30),
    st.binary(min_size=64, max_size=64),
)
def test_every_site_moves_by_the_shift_and_nothing_else_does(
    slots: list[int], shift: int, seed: bytes
) -> None:
    """Also sites that lie across the edge of a page."""
    booted = bytearray((seed * (3 * PAGE // 64 + 1))[: 3 * PAGE])
    offsets = array("I", sorted(min(8 * slot + 6, 3 * PAGE - 8) for slot in slots))
    offsets = array("I", sorted(set(offsets)))
    expected = bytearray(booted)
    for offset in offsets:
        value = int.from_bytes(booted[offset : offset + 4], "little")
        expected[offset : offset + 4] = ((value + shift) & 0xFFFFFFFF).to_bytes(4, "little")
    twin = TwinText(memoryview(booted), (Sites(offsets, 1, 4),), shift)
    assert assembled(twin, 3) == bytes(expected)


def test_patches_may_lie_across_the_edge_of_a_page() -> None:
    twin = TwinText(memoryview(bytearray(2 * PAGE)), (), 0, [(PAGE - 2, b"\x01\x02\x03\x04\x05")])
    assert assembled(twin, 2)[PAGE - 3 : PAGE + 4] == b"\0\x01\x02\x03\x04\x05\0"


def test_a_later_patch_takes_the_place_of_an_earlier_one() -> None:
    twin = TwinText(memoryview(bytearray(PAGE)), (), 0, [(16, b"\xaa\xaa"), (16, b"\xbb")])
    assert bytes(twin.page(0)[16:18]) == b"\xbb\0"


class Functions:
    """Trampolines of 8 bytes at these offsets."""

    longest = 8

    def __init__(self, *offsets: int) -> None:
        self.offsets = offsets

    def patches(self, start: int, stop: int) -> list[Patch]:
        return [
            (offset, bytes([1, 2, 3, 4, 5, 6, 7, 8])) for offset in self.offsets if start <= offset < stop
        ]


def test_trampolines_are_made_for_the_page_that_is_made_and_reach_over_its_edge() -> None:
    twin = TwinText(memoryview(bytearray(3 * PAGE)), (), 0, trampolines=Functions(PAGE - 4, 2 * PAGE + 8))
    assert bytes(twin.page(0)[-5:]) == b"\0\x01\x02\x03\x04"
    assert bytes(twin.page(PAGE)) == b"\x05\x06\x07\x08" + bytes(PAGE - 4)
    assert bytes(twin.page(2 * PAGE)[8:16]) == b"\x01\x02\x03\x04\x05\x06\x07\x08"


def test_a_patch_takes_the_place_of_a_trampoline_also_of_its_end_on_the_next_page() -> None:
    place = PAGE - 4
    twin = TwinText(memoryview(bytearray(2 * PAGE)), (), 0, [(place, b"\xbb")], trampolines=Functions(place))
    assert assembled(twin, 2) == bytes(place) + b"\xbb" + bytes(PAGE + 3)


def test_what_is_proven_later_is_in_the_next_page_that_is_made() -> None:
    proven = Proven()
    twin = TwinText(memoryview(bytearray(2 * PAGE)), (), 0x100000, trusted=proven)
    assert assembled(twin, 2) == bytes(2 * PAGE)
    proven.add([], [16, PAGE - 2])
    expected = bytearray(2 * PAGE)
    for field in (16, PAGE - 2):
        expected[field : field + 4] = (-0x100000 & 0xFFFFFFFF).to_bytes(4, "little")
    assert assembled(twin, 2) == bytes(expected)


def test_sites_that_boot_time_patching_rewrote_are_left_out() -> None:
    flat = bytearray(PAGE)
    flat[8:12] = (0x81000000).to_bytes(4, "little")
    flat[16:20] = (0x81000000).to_bytes(4, "little")
    booted = bytearray(flat)
    booted[8:12] = (0x82000000).to_bytes(4, "little")  # moved by the delta
    booted[16:20] = b"\x90\x90\x90\x90"  # patched
    text = 0xFFFFFFFF81000000
    sites = relocation_sites(
        memoryview(booted), flat, [text + 8, text + 16, text + PAGE], text, PAGE, 0x1000000, 4
    )
    assert list(sites) == [8]


@given(
    st.lists(st.integers(0, 3 * PAGE - 8), unique=True, max_size=40),
    st.integers(-(1 << 30), 1 << 30),
    st.integers(-(1 << 28), 1 << 28),
)
def test_references_that_stay_at_home_reach_it_from_where_the_twin_lies(
    places: list[int], shift: int, distance: int
) -> None:
    """Relative ones bridge the distance of the twin, relocated ones keep what they hold; also across
    pages."""
    fields = [
        place
        for place in sorted(places)
        if all(abs(place - other) >= 4 for other in places if other != place)
    ]
    absolute = array("I", fields[::2])
    booted = bytearray(3 * PAGE)
    twin = TwinText(
        memoryview(booted),
        (Sites(absolute, 1, 4),),
        shift,
        at_home=(HomeFields(array("I", fields), distance),),
    )
    text = assembled(twin, 3)
    for place in fields:
        moved = 0 if place in absolute else -shift
        assert int.from_bytes(text[place : place + 4], "little") == (moved + distance) & 0xFFFFFFFF
