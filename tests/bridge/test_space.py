"""The snapshot's address space, rebuilt on demand: what is mapped where, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_snapshot import (
    ABSENT,
    DATA,
    DIRECT_MAP,
    GS,
    HOME_VADDR,
    IMAGE_SIZE,
    KERNEL_SIZE,
    LINK,
    MODULES,
    PER_CPU_PADDR,
    RO_AFTER_INIT,
    RODATA_END,
    SHIFT,
    SPLIT,
    SPLIT_PADDRS,
    TEXT_END,
    TEXT_PADDR,
    TEXT_VADDR,
    VMALLOC,
    VMALLOC_PADDR,
    SmallSnapshot,
    SmallSpace,
    word,
)

from hybridbridge_vol.bridge import snapshot_space as spaces
from hybridbridge_vol.bridge.per_cpu_window import NAMES
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR, TWIN_PADDR
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory
from hybridbridge_vol.machine.paging import NO_EXECUTE, USER, WRITABLE
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.units import PAGE_SIZE

LARGE = 2 << 20
NOT_RANDOMIZED = 0xFFFF_FFFF_A000_0000
"""Where modules begin without CONFIG_RANDOMIZE_BASE."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallSpace]:
    """The space of an image that is mapped."""
    snapshot = SmallSnapshot(tmp_path / "image")
    yield SmallSpace(snapshot)
    snapshot.close()


@pytest.fixture
def unmappable(tmp_path: Path) -> Iterator[SmallSpace]:
    """The space of the same image, whose bytes must be read."""
    snapshot = SmallSnapshot(tmp_path / "image", mappable=False)
    yield SmallSpace(snapshot)
    snapshot.close()


def entry_at(small: SmallSpace, vaddr: int) -> int:
    place = small.space.builder.translate(vaddr)
    assert place is not None
    return place.entry


# --- the snapshot's data ----------------------------------------------------------------------------------


def test_a_large_page_is_mapped_as_one_where_the_image_holds_all_of_it(small: SmallSpace) -> None:
    assert small.space.complete(DIRECT_MAP + LARGE + 0x5008)
    place = small.space.builder.translate(DIRECT_MAP + LARGE)
    assert place is not None
    assert (place.paddr, place.shift) == (SNAPSHOT_PADDR + LARGE, 21)
    assert small.read(DIRECT_MAP + LARGE + 0x5000, 8) == word(LARGE + 0x5000)


def test_a_large_page_that_the_image_holds_in_part_is_mapped_page_by_page(small: SmallSpace) -> None:
    assert small.space.complete(DIRECT_MAP + 3 * LARGE + 8)
    place = small.space.builder.translate(DIRECT_MAP + 3 * LARGE + 8)
    assert place is not None
    assert (place.paddr, place.shift) == (SNAPSHOT_PADDR + 3 * LARGE + 8, 12)
    assert small.space.builder.translate(DIRECT_MAP + 3 * LARGE + PAGE_SIZE) is None


def test_the_images_last_page_is_mapped_though_it_is_cut_short(small: SmallSpace) -> None:
    last = IMAGE_SIZE & -PAGE_SIZE
    assert small.space.complete(DIRECT_MAP + last)
    assert small.read(DIRECT_MAP + last, 8) == word(last)
    assert not small.space.complete(DIRECT_MAP + last + PAGE_SIZE)


def test_a_small_page_is_mapped_where_its_table_says(small: SmallSpace) -> None:
    assert small.space.complete(VMALLOC + 0x123)
    assert small.read(VMALLOC, 8) == word(VMALLOC_PADDR)


@pytest.mark.parametrize("vaddr", [DIRECT_MAP, VMALLOC, TEXT_VADDR + DATA, TEXT_VADDR + RO_AFTER_INIT])
def test_data_of_the_snapshot_is_never_executable_nor_for_user_mode(small: SmallSpace, vaddr: int) -> None:
    assert small.space.complete(vaddr)
    entry = entry_at(small, vaddr)
    assert entry & NO_EXECUTE
    assert entry & WRITABLE
    assert not entry & USER


def test_pages_beside_one_of_the_direct_map_come_with_it(small: SmallSpace) -> None:
    assert small.space.complete(SPLIT + 0x18)
    for number, paddr in enumerate(SPLIT_PADDRS):
        place = small.space.builder.translate(SPLIT + PAGE_SIZE * number)
        if paddr is None or paddr >= IMAGE_SIZE:
            assert place is None
        else:
            assert place is not None
            assert place.paddr == SNAPSHOT_PADDR + paddr
            assert place.entry & NO_EXECUTE and not place.entry & USER
    ((start, mapping),) = small.pages.mappings
    assert sorted(small.pages.touched(start, mapping)) == [(0x32_0000, PAGE_SIZE), (0x33_0000, PAGE_SIZE)]


def test_a_page_that_would_have_to_be_read_comes_alone(unmappable: SmallSpace) -> None:
    assert unmappable.space.complete(SPLIT)
    assert unmappable.space.builder.translate(SPLIT + 3 * PAGE_SIZE) is None


def test_what_is_mapped_is_not_mapped_again(small: SmallSpace) -> None:
    assert small.space.complete(VMALLOC)
    assert not small.space.complete(VMALLOC)


@pytest.mark.parametrize(
    "vaddr",
    [
        pytest.param(ABSENT, id="a page that the image does not hold"),
        pytest.param(VMALLOC + (1 << 30), id="nothing in the snapshot's tables"),
        pytest.param(0x40_0000, id="user memory"),
        pytest.param(GS, id="the trusted kernel's memory"),
        pytest.param(HOME_VADDR, id="the trusted kernel's image"),
        pytest.param(0xFFFF_FE00_0000_0000, id="the CPU entry area, each kernel's own"),
        pytest.param(MODULES.stop, id="the fixmap"),
        pytest.param(MODULES.start, id="a module that nobody knows"),
        pytest.param((1 << 64) - 8, id="the last word"),
    ],
)
def test_nothing_is_mapped_where_the_snapshot_has_nothing(small: SmallSpace, vaddr: int) -> None:
    assert not small.space.complete(vaddr)
    assert small.space.builder.translate(vaddr) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, (1 << 64) - 1) | st.integers(-(1 << 42), 1 << 42).map(lambda near: DIRECT_MAP + near))
def test_whatever_is_touched_what_gets_mapped_lies_in_the_image_and_is_data(
    small: SmallSpace, vaddr: int
) -> None:
    if small.space.complete(vaddr):
        place = small.space.builder.translate(vaddr)
        assert place is not None
        in_image = 0 <= place.paddr - SNAPSHOT_PADDR < IMAGE_SIZE + PAGE_SIZE
        in_twin = 0 <= place.paddr - TWIN_PADDR < KERNEL_SIZE
        assert in_image and place.entry & NO_EXECUTE or in_twin and not place.entry & WRITABLE


# --- the kernel image -------------------------------------------------------------------------------------


def test_text_and_constants_are_the_twins_and_the_rest_is_the_snapshots(small: SmallSpace) -> None:
    for offset in range(0, KERNEL_SIZE, PAGE_SIZE):
        assert small.space.complete(TEXT_VADDR + offset + 8)
        place = small.space.builder.translate(TEXT_VADDR + offset)
        assert place is not None
        is_twin = offset < RODATA_END and offset != RO_AFTER_INIT
        start = TWIN_PADDR if is_twin else SNAPSHOT_PADDR + TEXT_PADDR
        assert place.paddr == start + offset
        assert bool(place.entry & NO_EXECUTE) == (offset >= TEXT_END)
        assert bool(place.entry & WRITABLE) != is_twin


def test_constants_are_relocated_to_where_the_snapshot_is(small: SmallSpace) -> None:
    assert small.space.complete(TEXT_VADDR + RODATA_END - 8)
    old = int.from_bytes(small.booted[DATA - 8 : DATA], "little")
    moved = (old + TEXT_VADDR - HOME_VADDR) & (1 << 64) - 1
    assert small.read(TEXT_VADDR + RODATA_END - 8, 8) == word(moved)


def test_code_is_int3_where_nothing_is_proven_but_for_patches(tmp_path: Path) -> None:
    snapshot = SmallSnapshot(tmp_path / "image")
    small = SmallSpace(snapshot, patches=((0x40, b"\xc3"),))
    small.memo.text.add([(0x20, 0x28)])
    assert small.space.complete(TEXT_VADDR)
    expected = bytearray(b"\xcc" * 0x60)
    expected[0x20:0x28] = small.booted[0x20:0x28]
    expected[0x40] = 0xC3
    assert small.read(TEXT_VADDR, 0x60) == bytes(expected)
    assert bytes(small.twin.whole.view[0x20:0x40]) == bytes(small.booted[0x20:0x40])
    snapshot.close()


def test_learning_uncovers_code_and_turns_fields_home_in_pages_that_are_in_use(small: SmallSpace) -> None:
    assert small.space.complete(TEXT_VADDR)
    small.twin.learn([(0x20, 0x30)], [0x24])
    assert small.twin.renew([0x20, 0x24, RODATA_END + 0x100]) == [TEXT_VADDR]
    field = (int.from_bytes(small.booted[0x24:0x28], "little") - (SHIFT - (HOME_VADDR - LINK))) & 0xFFFFFFFF
    assert small.read(TEXT_VADDR + 0x20, 4) == bytes(small.booted[0x20:0x24])
    assert small.read(TEXT_VADDR + 0x24, 4) == field.to_bytes(4, "little")
    assert small.memo.text.covers(0x20, 0x30)


def test_positions_in_the_twin_are_counted_from_its_text(small: SmallSpace) -> None:
    assert small.twin.offset_of(TEXT_VADDR) == 0
    assert small.twin.offset_of(TEXT_VADDR + KERNEL_SIZE - 1) == KERNEL_SIZE - 1
    assert small.twin.offset_of(TEXT_VADDR + KERNEL_SIZE) is None
    assert small.twin.offset_of(HOME_VADDR) is None


# --- the rest ---------------------------------------------------------------------------------------------


def test_the_per_cpu_window_shows_the_area_of_the_snapshots_first_cpu(small: SmallSpace) -> None:
    vaddr = GS + NAMES.start
    assert small.space.complete(vaddr + 0x10)
    assert small.read(vaddr, 8) == word(PER_CPU_PADDR)
    assert entry_at(small, vaddr) & NO_EXECUTE
    assert not small.space.complete(GS + NAMES.start - 8)  # beside it lies nothing


@pytest.mark.parametrize("start", [MODULES.start, NOT_RANDOMIZED])
def test_pages_of_the_trusted_kernels_own_are_taken_out_of_the_modules_area(
    tmp_path: Path, start: int
) -> None:
    snapshot = SmallSnapshot(tmp_path / "image", modules=range(start, MODULES.stop))
    small = SmallSpace(snapshot)
    inside, outside = (start, MODULES.start, MODULES.stop - PAGE_SIZE), (start - PAGE_SIZE, MODULES.stop)
    for vaddr in (*inside, *outside):
        small.space.builder.map_page(vaddr, 0x3000, WRITABLE)
    small.space._clear_modules_area(small.physical)
    assert [small.space.builder.translate(vaddr) for vaddr in inside] == [None] * 3
    assert None not in [small.space.builder.translate(vaddr) for vaddr in outside]
    snapshot.close()


def test_more_page_tables_than_there_is_room_for_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "TABLES_SIZE", 2 * PAGE_SIZE)
    pool = spaces.TablePool(PhysicalMemory())
    assert pool.allocate() + PAGE_SIZE == pool.allocate()
    with pytest.raises(MemoryError):
        pool.allocate()


def test_writes_stay_in_memory_and_are_gone_after_a_roll_back(small: SmallSpace, tmp_path: Path) -> None:
    assert small.space.complete(VMALLOC)
    small.physical.write(SNAPSHOT_PADDR + VMALLOC_PADDR, b"written!")
    assert small.read(VMALLOC, 8) == b"written!"
    ((start, mapping),) = small.pages.mappings
    assert small.pages.touched(start, mapping) == [(VMALLOC_PADDR, PAGE_SIZE)]
    mapping.discard_writes()
    assert small.read(VMALLOC, 8) == word(VMALLOC_PADDR)
    assert (tmp_path / "image").read_bytes() == small.snapshot.data


def test_an_image_that_cannot_be_mapped_is_read_page_by_page(unmappable: SmallSpace) -> None:
    assert unmappable.space.complete(DIRECT_MAP + LARGE + 0x5008)
    place = unmappable.space.builder.translate(DIRECT_MAP + LARGE + 0x5000)
    assert place is not None
    assert place.shift == 12
    assert unmappable.read(DIRECT_MAP + LARGE + 0x5000, 8) == word(LARGE + 0x5000)
    assert unmappable.physical.read(SNAPSHOT_PADDR + LARGE + 0x6000, 8) == bytes(8)  # nobody asked for it


def test_runs_that_share_a_page_lie_in_one_piece_of_memory(tmp_path: Path) -> None:
    runs = [Run(0, 0x30_0800, 0), Run(0x30_0A00, 0x600, 0x30_0A00), Run(0x40_0000, 0x1000, 0x40_0000)]
    snapshot = SmallSnapshot(tmp_path / "image", mappable=False, runs=runs)
    small = SmallSpace(snapshot)
    assert [(paddr, mapping.size) for paddr, mapping in small.pages.mappings] == [
        (0, 0x30_1000),
        (0x40_0000, 0x1000),
    ]
    assert small.space.complete(VMALLOC)
    assert small.read(VMALLOC, 16) == word(VMALLOC_PADDR) + bytes(8)
    assert small.space.complete(DIRECT_MAP + 0x40_0000)
    assert not small.space.complete(DIRECT_MAP + 0x40_1000)
    snapshot.close()


def test_pages_that_were_read_are_as_in_the_image_after_a_roll_back(unmappable: SmallSpace) -> None:
    assert unmappable.space.complete(VMALLOC)
    ((_start, mapping),) = unmappable.pages.mappings
    unmappable.physical.write(SNAPSHOT_PADDR + VMALLOC_PADDR, b"written!")
    mapping.discard_writes()
    assert unmappable.read(VMALLOC, 8) == word(VMALLOC_PADDR)


def test_bytes_are_given_as_calls_left_them_where_the_image_is_mapped(
    small: SmallSpace, unmappable: SmallSpace
) -> None:
    for space, expected in ((small, b"written!"), (unmappable, word(VMALLOC_PADDR))):
        space.physical.write(SNAPSHOT_PADDR + VMALLOC_PADDR, b"written!")
        assert space.pages.bytes_at(VMALLOC_PADDR, 8) == expected
        assert space.pages.bytes_at(IMAGE_SIZE, 8) is None


def test_a_mapping_of_part_of_a_page_is_touched_no_further_than_its_end(small: SmallSpace) -> None:
    last = IMAGE_SIZE & -PAGE_SIZE
    assert small.space.complete(DIRECT_MAP + last)
    ((start, mapping),) = small.pages.mappings
    assert isinstance(mapping, HostMapping)
    assert small.pages.touched(start, mapping) == [(last, IMAGE_SIZE - last)]


def test_pages_that_follow_each_other_in_two_pieces_of_memory_are_touched_in_both(tmp_path: Path) -> None:
    middle = VMALLOC_PADDR + PAGE_SIZE
    runs = [Run(0, middle, 0), Run(middle, IMAGE_SIZE - middle, middle)]
    snapshot = SmallSnapshot(tmp_path / "image", runs=runs)
    small = SmallSpace(snapshot)
    assert [small.pages.bring_in(paddr, 12) for paddr in (VMALLOC_PADDR, middle)] == [
        (VMALLOC_PADDR, 12), (middle, 12),
    ]  # fmt: skip
    touched = [small.pages.touched(start, mapping) for start, mapping in small.pages.mappings]
    assert touched == [[(VMALLOC_PADDR, PAGE_SIZE)], [(0, PAGE_SIZE)]]
    snapshot.close()
