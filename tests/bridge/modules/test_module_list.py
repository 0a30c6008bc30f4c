"""The snapshot's list of modules: names, whose memory an address is in, and lists that are forged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_snapshot import DIRECT_MAP, MODULES, TEXT_PADDR, SmallSnapshot

from hybridbridge_vol.bridge.modules import module_list
from hybridbridge_vol.bridge.modules.module_list import ModuleList
from hybridbridge_vol.units import PAGE_SIZE

HEAD_PADDR, FIRST_PADDR, RECORD_SIZE = 0x40_0000, 0x41_0000, 0x1000
HEAD = DIRECT_MAP + HEAD_PADDR
LIST_OFFSET = 8
"""Of `list` in struct module."""


def node(number: int) -> int:
    """Virtual address of the list node of a module, by its position in the image."""
    return DIRECT_MAP + FIRST_PADDR + number * RECORD_SIZE + LIST_OFFSET


def record(name: bytes, following: int, *words: int) -> bytes:
    """A `struct module`: state, list, name, and other words."""
    return struct.pack("<8xQ8x56s", following, name) + struct.pack(f"<{len(words)}Q", *words)


MakeList = Callable[..., ModuleList]


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[MakeList]:
    """Makes the list of an image; `records` are in its order, the head leads to the first."""
    opened: list[SmallSnapshot] = []

    def make(*records: bytes, first: int = node(0)) -> ModuleList:
        data = {HEAD_PADDR: struct.pack("<Q", first)}
        data |= {FIRST_PADDR + RECORD_SIZE * number: item for number, item in enumerate(records)}
        statics = {paddr - TEXT_PADDR: content for paddr, content in data.items()}
        opened.append(SmallSnapshot(tmp_path / f"image{len(opened)}", statics))
        return ModuleList(opened[-1].memory, HEAD)

    yield make
    for snapshot in opened:
        snapshot.close()


def page(number: int) -> int:
    return MODULES.start + number * PAGE_SIZE


def test_an_address_belongs_to_the_module_with_the_nearest_page_before_it(listed: MakeList) -> None:
    modules = listed(record(b"one", node(1), page(1), page(9)), record(b"two", HEAD, page(4), page(12)))
    assert modules.names_at(page(1)) == ["one"]
    assert modules.names_at(page(3) + 0xFFF) == ["one"]
    assert modules.names_at(page(4)) == ["two"]
    assert sorted(modules.pages_of("two")) == [page(4), page(12)]


def test_a_page_of_another_module_hides_no_earlier_one(listed: MakeList) -> None:
    """`struct module` keeps where the code of its initialisation was; its memory is freed and used again."""
    modules = listed(record(b"early", node(1), page(1), page(6)), record(b"late", HEAD, page(4), page(9)))
    assert modules.names_at(page(7)) == ["early"]
    assert modules.earlier_names(page(7)) == ["late"]
    assert modules.earlier_names(page(1)) == []
    assert modules.earlier_names(page(0)) == []


def test_earlier_modules_are_looked_at_up_to_a_number(
    listed: MakeList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_list, "MAX_EARLIER", 2)
    modules = listed(
        *(record(b"m%d" % number, node(number + 1), page(number + 1)) for number in range(4)),
        record(b"m4", HEAD, page(5)),
    )
    assert modules.earlier_names(page(5)) == ["m3", "m2"]


def test_of_two_modules_with_one_page_the_one_whose_memory_ends_there_comes_last(listed: MakeList) -> None:
    modules = listed(record(b"one", node(1), page(1), page(4)), record(b"two", HEAD, page(4), page(7)))
    assert modules.names_at(page(4) + 8) == ["two", "one"]


@pytest.mark.parametrize("vaddr", [page(0), MODULES.start - 1, MODULES.stop, page(1) + (16 << 20) + 1])
def test_an_address_that_is_before_far_behind_or_outside_has_no_module(listed: MakeList, vaddr: int) -> None:
    assert listed(record(b"one", HEAD, page(1))).names_at(vaddr) == []


def test_a_dash_in_a_name_is_an_underscore(listed: MakeList) -> None:
    assert listed(record(b"sha1-ssse3", HEAD, page(1))).names_at(page(1)) == ["sha1_ssse3"]


@pytest.mark.parametrize("name", [b"", b"a\xff", b"../x", b"x" * 56], ids=["empty", "odd", "path", "endless"])
def test_a_record_without_a_name_is_passed_over(listed: MakeList, name: bytes) -> None:
    modules = listed(record(name, node(1), page(1)), record(b"two", HEAD, page(4)))
    assert modules.names_at(page(1)) == []
    assert modules.names_at(page(4)) == ["two"]


@pytest.mark.parametrize("end", [node(0), node(1), 0, 0x1234, 0xFFFF_FFFF_FFFF_FFF8])
def test_a_list_that_does_not_lead_back_to_its_head_ends(listed: MakeList, end: int) -> None:
    modules = listed(record(b"one", node(1), page(1)), record(b"two", end, page(4)))
    assert (modules.names_at(page(1)), modules.names_at(page(4))) == (["one"], ["two"])


def test_a_list_is_read_up_to_a_number_of_modules(listed: MakeList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_list, "MAX_MODULES", 3)
    records = [record(b"m%d" % number, node(number + 1), page(number + 1)) for number in range(5)]
    modules = listed(*records)
    assert [modules.names_at(page(number + 1)) for number in range(3)] == [["m0"], ["m1"], ["m2"]]
    assert modules.names_at(page(5)) == ["m2"]  # the nearest page before it


@pytest.mark.parametrize("first", [HEAD, 0, 0x1234])
def test_an_empty_or_unreadable_list_has_no_modules(listed: MakeList, first: int) -> None:
    assert listed(first=first).names_at(page(1)) == []


NAME_BEFORE_NODE = 0x100


@pytest.mark.parametrize("known", [True, False])
def test_a_kernel_that_draws_the_order_of_fields_has_its_names_elsewhere(tmp_path: Path, known: bool) -> None:
    data = {HEAD_PADDR: struct.pack("<Q", node(1))}
    for number, name in enumerate((b"one", b"two", b"three"), 1):
        start = FIRST_PADDR + number * RECORD_SIZE
        following = node(number + 1) if number < 3 else HEAD
        data[start + LIST_OFFSET] = struct.pack("<Q8xQ", following, page(number))
        data[start + LIST_OFFSET - NAME_BEFORE_NODE] = struct.pack("<56s", name)
        data[start + LIST_OFFSET + 0x200] = struct.pack("<56s", b"elsewhere")
    snapshot = SmallSnapshot(tmp_path / "image", {place - TEXT_PADDR: item for place, item in data.items()})
    names = {"one": 0x20, "two": 0x20} if known else {}
    modules = ModuleList(snapshot.memory, HEAD, names.get)
    if known:
        start = node(1) - NAME_BEFORE_NODE - 0x20
        assert modules.structs["one"] == (start, [page(1)])
        assert list(modules.structs) == ["one", "two", "three"]
    else:
        assert modules.structs == {}
    snapshot.close()


def test_a_trusted_file_that_agrees_with_the_usual_order_ends_the_search(listed: MakeList) -> None:
    modules = listed(record(b"one", node(1), page(1)), record(b"two", HEAD, page(4)))
    usual = ModuleList(modules._snapshot, HEAD, lambda _name: 24)
    assert usual.structs == modules.structs


def test_without_randomize_base_modules_lie_further_down(tmp_path: Path) -> None:
    start = 0xFFFF_FFFF_A000_0000
    data = {
        HEAD_PADDR: struct.pack("<Q", node(0)),
        FIRST_PADDR: record(b"one", HEAD, start, start + PAGE_SIZE),
    }
    statics = {paddr - TEXT_PADDR: content for paddr, content in data.items()}
    for number, area in enumerate((range(start, MODULES.stop), MODULES)):
        snapshot = SmallSnapshot(tmp_path / f"image{number}", statics, modules=area)
        modules = ModuleList(snapshot.memory, HEAD)
        assert modules.names_at(start + 8) == (["one"] if start in area else [])
        assert modules.pages_of("one") == ([start, start + PAGE_SIZE] if start in area else [])
        snapshot.close()


def test_a_kernel_without_modules_has_none(tmp_path: Path) -> None:
    snapshot = SmallSnapshot(tmp_path / "image")
    assert ModuleList(snapshot.memory, None).names_at(page(1)) == []
    snapshot.close()
