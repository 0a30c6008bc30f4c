"""Runs and ranges: the first of those that overlap counts, and nothing is lost or made up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.memory_image.ranges import joined, merged, subtracted
from hybridbridge_vol.memory_image.runs import ZEROS, Run, RunList, disjoint

SMALL_RUNS = st.lists(st.builds(Run, st.integers(0, 40), st.integers(1, 20), st.integers(0, 60)), max_size=12)
SMALL_RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=10)


def assert_disjoint_and_inside(runs: Sequence[Run], size: int) -> None:
    """The runs ascend, do not overlap, and lie in a file of `size` bytes."""
    end = 0
    for run in runs:
        assert run.paddr >= end
        assert run.size > 0
        assert run.offset == ZEROS or 0 <= run.offset and run.offset + run.size <= size
        end = run.end_paddr


def addresses(ranges: Sequence[tuple[int, int]]) -> set[int]:
    return {address for start, size in ranges for address in range(start, start + size)}


@given(SMALL_RUNS)
def test_each_address_has_the_byte_that_the_first_run_gives_it(runs: list[Run]) -> None:
    expected: dict[int, int] = {}
    for run in runs:
        for at in range(run.size):
            expected.setdefault(run.paddr + at, run.offset + at)
    result = disjoint(runs)
    assert_disjoint_and_inside(result, 100)
    assert {run.paddr + at: run.offset + at for run in result for at in range(run.size)} == expected


@given(SMALL_RANGES, SMALL_RANGES)
def test_ranges_are_joined_and_subtracted_like_sets(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    assert addresses(joined(some)) == addresses(some)
    rest = subtracted(joined(some), joined(others))
    assert addresses(rest) == addresses(some) - addresses(others)
    assert all(first[0] + first[1] <= second[0] for first, second in pairwise(rest))


@given(SMALL_RANGES, st.integers(1, 4))
def test_merged_ranges_are_few_and_lose_nothing(ranges: list[tuple[int, int]], limit: int) -> None:
    result = merged(sorted(ranges), limit)
    assert len(result) <= limit
    assert addresses(ranges) <= addresses(result)


@given(SMALL_RUNS, st.integers(0, 60))
def test_what_the_file_does_not_hold_is_missing_unless_another_run_has_it(runs: list[Run], size: int) -> None:
    collected = RunList(size)
    for run in runs:
        collected.add(run.paddr, run.size, run.offset)
    held = addresses([(run.paddr, run.size) for run in collected.runs()])
    assert_disjoint_and_inside(collected.runs(), size)
    assert addresses(collected.missing()) == addresses([(run.paddr, run.size) for run in runs]) - held


def test_many_small_runs_under_a_large_one_cost_little() -> None:
    begun = time.process_time()
    runs = [Run(page * 0x2000, 0x1000, 7) for page in range(100_000)]
    assert len(disjoint([*runs, Run(0, 0x2000 * 100_000, 0)])) == 200_000
    assert time.process_time() - begun < 10
