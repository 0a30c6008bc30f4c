"""Processes as a tree, also where a hostile image makes none of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.toolkit.tree import DEEPEST, as_tree


def test_children_follow_their_parent_in_order() -> None:
    parents = {1: 0, 2: 0, 3: 2, 10: 1, 11: 10, 12: 1}
    assert list(as_tree(parents)) == [(1, 0), (10, 1), (11, 2), (12, 1), (2, 0), (3, 1)]


def test_a_child_may_be_listed_before_its_parent() -> None:
    assert list(as_tree({5: 9, 9: 1})) == [(9, 0), (5, 1)]


def test_a_cycle_is_shown_and_ends() -> None:
    assert list(as_tree({1: 0, 7: 8, 8: 7, 9: 8})) == [(1, 0), (7, 0), (8, 1), (9, 2)]


def test_a_long_chain_is_flattened_at_the_deepest_level() -> None:
    depths = [depth for _, depth in as_tree({pid: pid - 1 for pid in range(1, 40_000)})]
    assert len(depths) == 39_999
    assert max(depths) == DEEPEST


@given(st.dictionaries(st.integers(0, 20), st.none() | st.integers(-1, 25)))
def test_each_is_shown_once_and_one_level_below_something(parents: dict[int, int | None]) -> None:
    order = list(as_tree(parents))
    assert sorted(key for key, _ in order) == sorted(parents)
    previous = -1
    for _, depth in order:
        assert 0 <= depth <= previous + 1
        previous = depth
