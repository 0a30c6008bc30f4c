"""Lists and trees of the snapshot: followed in their order, and ended where they are cyclic or forged."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from generations import Lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridbridge_vol.bridge.objects import typed_memory
from hybridbridge_vol.bridge.objects.list_ends import Broken, BrokenList
from hybridbridge_vol.bridge.objects.some_words import SomeWords
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.bridge.objects.vmap_areas import vmap_areas
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import PAGE_SIZE

SAMPLE = "6.1 two CPUs"
BASE = 0xFFFF_8880_0000_0000


class Words(TypedMemory):
    """A memory of a few words, with the types of a real kernel."""

    def __init__(self, real: TypedMemory, words: dict[int, int]) -> None:
        self.types = real.types
        self._pages = {}
        self.begin()
        self.torn = set()
        self._words = words

    def read(self, vaddr: int, size: int) -> bytes:
        if size != 8 or vaddr not in self._words:
            raise UnreadableVirtual(vaddr)
        return self._words[vaddr].to_bytes(8, "little")


@pytest.fixture(scope="module")
def real(lab: Lab) -> TypedMemory:
    return TypedMemory(lab.session(SAMPLE).bridge)


def ring(count: int) -> dict[int, int]:
    nodes = [BASE + 0x100 * number for number in range(count)]
    return dict(zip(nodes, [*nodes[1:], nodes[0]], strict=True))


def names(memory: TypedMemory, head: int) -> list[int]:
    return list(memory.list(head, "list_head", "next"))


def test_a_ring_is_followed_to_its_head(real: TypedMemory) -> None:
    assert names(Words(real, ring(4)), BASE) == [BASE + 0x100, BASE + 0x200, BASE + 0x300]
    assert names(Words(real, {BASE: BASE}), BASE) == []
    assert names(Words(real, {BASE: 0}), BASE) == []  # not initialised


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (ring(5) | {BASE + 0x300: BASE + 0x200}, "leads back into itself"),
        (ring(5) | {BASE + 0x300: 0x1234}, "out of the kernel, to 0x1234"),
        (ring(5) | {BASE + 0x300: BASE + 0x9999}, "does not hold"),
    ],
)
def test_a_ring_that_does_not_come_back_gives_what_it_has(
    real: TypedMemory, words: dict[int, int], error: str
) -> None:
    found = []
    with pytest.raises(Broken, match=error):
        for node in Words(real, words).list(BASE, "list_head", "next"):
            found.append(node)  # noqa: PERF402 - it is kept when the list ends badly
    assert found[:3] == [BASE + 0x100, BASE + 0x200, BASE + 0x300]


def tree(real: TypedMemory, links: dict[int, tuple[int, int]], root: int) -> list[int]:
    left, right = (real.types.offset("rb_node", name) for name in ("rb_left", "rb_right"))
    words = {BASE: root}
    for node, (before, behind) in links.items():
        words |= {node + left: before, node + right: behind}
    return list(Words(real, words).tree(BASE, "rb_node", "__rb_parent_color"))


def test_a_tree_is_followed_in_its_order(real: TypedMemory) -> None:
    a, b, c, d = (BASE + 0x100 * number for number in range(1, 5))
    assert tree(real, {b: (a, d), a: (0, 0), d: (c, 0), c: (0, 0)}, b) == [a, b, c, d]
    assert tree(real, {}, 0) == []
    with pytest.raises(BrokenList, match="back into itself"):
        tree(real, {b: (a, d), a: (0, 0), d: (b, 0)}, b)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_words_end(real: TypedMemory, data: st.DataObject) -> None:
    places = [BASE + 8 * number for number in range(40)]
    values = st.sampled_from([*places, 0, 1, 0x1234])
    memory = Words(real, {place: data.draw(values) for place in places})
    walks: tuple[Any, ...] = (
        lambda: memory.list(BASE, "list_head", "next"),
        lambda: memory.hlist(BASE, "hlist_node", "next"),
        lambda: memory.tree(BASE, "rb_node", "__rb_parent_color"),
    )
    for walk in walks:
        found: list[int] = []
        try:
            for node in walk():
                found.append(node)  # noqa: PERF402
        except Broken:
            pass
        assert len(found) == len(set(found)) <= len(places)


def test_reading_has_a_limit(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_memory, "MAX_READS", 10)
    memory = TypedMemory(lab.session(SAMPLE).bridge)
    place = memory.symbol("init_task")
    for _ in range(11):
        memory.word(place)
    with pytest.raises(BrokenList, match="more lists than can be followed"):
        memory.word(place)
    memory.begin()
    assert memory.word(place) >= 0


def test_words_of_a_structure_are_given_in_the_order_of_their_offsets(real: TypedMemory) -> None:
    size = real.types.size("task_struct") // 8 * 8  # more than a page: parts of it are read apart
    init = real.symbol("init_task")
    whole = memoryview(real.read(init, size)).cast("Q")
    offsets = [size - 8, 0, 4096, 8, 4088]
    expected = [whole[offset // 8] for offset in offsets]
    assert list(SomeWords(size, offsets).read(real, init)) == expected
    short = SomeWords(32, [24, 0])
    for vaddr in (init, (init | PAGE_SIZE - 1) - 15):  # within a page, and across its end
        words = memoryview(real.read(vaddr, 32)).cast("Q")
        assert [list(short.read(real, vaddr)) for _ in range(2)] == [[words[3], words[0]]] * 2
    with pytest.raises(UnreadableVirtual):
        short.read(real, 0x1000)


def test_a_node_that_contradicts_its_neighbour_is_noted_on_pages_that_were_read_before(lab: Lab) -> None:
    class Torn(TypedMemory):
        def _read_page(self, page_vaddr: int) -> bytes:
            page = bytearray(PAGE_SIZE)
            # each node is the first of its page; the second one leads back to itself
            following, back = {0: (1, 2), 1: (2, 0), 2: (0, 2)}[(page_vaddr - BASE) // PAGE_SIZE]
            page[:16] = struct.pack("<2Q", BASE + following * PAGE_SIZE, BASE + back * PAGE_SIZE)
            return bytes(page)

    memory = Torn(lab.session(SAMPLE).bridge)
    nodes = [BASE + PAGE_SIZE, BASE + 2 * PAGE_SIZE]
    for _ in range(2):  # read for the first time, and again
        memory.torn.clear()
        assert names(memory, BASE) == nodes
        assert memory.torn == set(nodes)


def test_fields_are_read_by_name(lab: Lab, real: TypedMemory) -> None:
    init = real.symbol("init_task")
    assert real.name(init, "task_struct", "comm").startswith("swapper")
    assert real.get(init, "task_struct", "pid") == 0
    first = real.get(init, "task_struct", "tasks.next") - real.types.offset("task_struct", "tasks")
    assert real.get(first, "task_struct", "pid") == 1
    assert real.cpus() == [0, 1]
    with pytest.raises(LookupError, match="this kernel has no symbol no_such_symbol"):
        real.symbol("no_such_symbol")
    with pytest.raises(UnreadableVirtual):
        real.read(0x1000, 8)


def test_areas_of_vmalloc_are_those_that_the_kernels_own_file_counts(lab: Lab, real: TypedMemory) -> None:
    lines = lab.session(SAMPLE).files.read("/proc/vmallocinfo").splitlines()
    said = sorted(
        int(line.split()[1]) for line in lines if b" vm_map_ram" not in line and b"unpurged" not in line
    )
    assert sorted(area.size + 4096 for area in vmap_areas(real)) == said
