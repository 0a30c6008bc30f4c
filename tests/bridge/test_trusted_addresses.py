"""Bytes of the image that could be an address of the trusted side: found at any alignment, and no others."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from small_snapshot import (
    DIRECT_MAP,
    HOME_LAYOUT,
    HOME_VADDR,
    IMAGE_SIZE,
    KERNEL_SIZE,
    SPLIT,
    SPLIT_PADDRS,
    SmallSnapshot,
    SmallSpace,
    word,
)

from hybridbridge_vol.bridge.trusted_addresses import TrustedAddresses
from hybridbridge_vol.units import PAGE_SIZE

WINDOW = range(0xFFFF_FFFF_B140_0000, 0xFFFF_FFFF_B420_0000)
HOLE = range(0xFFFF_8334_4000_0000, 0xFFFF_8334_8000_0000)
FIVE_LEVELS = range(0xFF00_0123_4000_0000, 0xFF00_0123_8000_0000)
LARGE = 2 << 20

background = st.sampled_from([b"\0", b"\xff", b"\xb1", b"\x83\xff", b"\x34\x83\xff\xff", bytes(range(256))])


@settings(max_examples=300)
@given(
    background,
    st.integers(8, 3000),
    st.lists(st.tuples(st.integers(0, 2999), st.integers(0, (1 << 64) - 1) | st.sampled_from([
        edge + step for item in (WINDOW, HOLE, FIVE_LEVELS) for edge in (item.start, item.stop)
        for step in (-1, 0, 1)
    ])), max_size=3),
    st.sampled_from([HOLE, FIVE_LEVELS]),
)  # fmt: skip
def test_eight_bytes_are_found_wherever_they_lie(
    around: bytes, size: int, words: list[tuple[int, int]], hole: range
) -> None:
    data = bytearray((around * size)[:size])
    for at, value in words:
        data[at : at + 8] = value.to_bytes(8, "little")
    del data[size:]
    values = [int.from_bytes(data[at : at + 8], "little") for at in range(len(data) - 7)]
    expected = any(value in hole for value in values) or any(value in WINDOW for value in values[::4])
    assert TrustedAddresses(WINDOW, [hole]).are_in(memoryview(data)) == expected


def test_fewer_bytes_than_an_address_has_are_none() -> None:
    assert not TrustedAddresses(WINDOW, [HOLE]).are_in(memoryview(bytearray(b"\xff" * 7)))
    assert not TrustedAddresses(WINDOW, [HOLE]).are_in(memoryview(bytearray()))


def forged(path: Path, changes: dict[int, int], mappable: bool = True) -> SmallSpace:
    """The space of a small snapshot with words changed at image offsets."""
    snapshot = SmallSnapshot(path, mappable=mappable)
    with open(path, "r+b") as stream:
        for offset, value in changes.items():
            stream.seek(offset)
            stream.write(word(value))
            snapshot.data[offset : offset + 8] = word(value)
    return SmallSpace(snapshot)


TRUSTED = HOME_VADDR + KERNEL_SIZE // 2


def test_a_page_with_an_address_of_the_trusted_side_is_withheld_from_fast_bridge(tmp_path: Path) -> None:
    for mappable in (True, False):
        small = forged(tmp_path / "image", {LARGE + 0x5804: TRUSTED}, mappable)
        space = small.space
        suspect = DIRECT_MAP + LARGE + 0x5000
        assert not space.complete(suspect + 8)
        assert space.withholds(suspect + 8)
        assert space.builder.translate(suspect) is None
        assert space.complete(suspect + PAGE_SIZE)  # its neighbours are not
        assert not space.withholds(suspect + PAGE_SIZE)
        with space.all_lent():
            assert space.complete(suspect + 8)
            assert not space.withholds(suspect + 8)
            assert int.from_bytes(small.read(suspect + 0x804, 8), "little") == TRUSTED
        assert space.builder.translate(suspect) is None
        small.snapshot.close()


def test_a_page_that_is_mapped_with_others_is_withheld_too(tmp_path: Path) -> None:
    paddrs = [(number, paddr) for number, paddr in enumerate(SPLIT_PADDRS) if paddr and paddr < IMAGE_SIZE]
    (first, _paddr), (number, paddr) = paddrs
    small = forged(tmp_path / "image", {paddr + 0x18: TRUSTED})
    assert small.space.complete(SPLIT + PAGE_SIZE * first)
    assert small.space.builder.translate(SPLIT + PAGE_SIZE * number) is None
    assert not small.space.complete(SPLIT + PAGE_SIZE * number)
    assert small.space.withholds(SPLIT + PAGE_SIZE * number)
    small.snapshot.close()


def test_an_address_across_two_pages_makes_both_suspect(tmp_path: Path) -> None:
    small = forged(tmp_path / "image", {LARGE + 0x6000 - 4: TRUSTED})
    assert not small.space.complete(DIRECT_MAP + LARGE + 0x5000)
    assert not small.space.complete(DIRECT_MAP + LARGE + 0x6000)
    assert small.space.complete(DIRECT_MAP + LARGE + 0x7000)
    small.snapshot.close()


def test_other_addresses_of_the_hole_are_followed_to_nothing_and_withhold_nothing(tmp_path: Path) -> None:
    small = forged(tmp_path / "image", {LARGE + 0x5800: HOME_LAYOUT.guard_hole.start})
    assert small.space.complete(DIRECT_MAP + LARGE + 0x5008)
    small.snapshot.close()
