"""The symbol that an address lies in, against a search through all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.modules.extents import Extent, Extents


def searched(extents: list[Extent], vaddr: int) -> Extent | None:
    """The last one with the address, one by one."""
    found = [each for each in extents if each.start <= vaddr < each.start + each.size]
    return found[-1] if found else None


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=12), st.integers(0, 100))
def test_it_is_the_last_one_of_the_table_that_has_the_address(
    made: list[tuple[int, int]], vaddr: int
) -> None:
    extents = [Extent(start, size, number, f"s{number}") for number, (start, size) in enumerate(made)]
    assert Extents(extents).around(vaddr) == searched(extents, vaddr)


def test_many_addresses_among_many_symbols_are_found_without_looking_at_all_of_them() -> None:
    looked_at = 0

    class Counted(int):
        def __gt__(self, other: int) -> bool:
            nonlocal looked_at
            looked_at += 1
            return int(self) > other

    extents = Extents(Extent(16 * number, 16, number, f"s{number}") for number in range(5000))
    extents._ends = [Counted(end) for end in extents._ends]
    for vaddr in range(0, 80_000, 100):
        assert extents.around(vaddr) == Extent(vaddr // 16 * 16, 16, vaddr // 16, f"s{vaddr // 16}")
    assert looked_at <= 2 * 800
