"""The timeline's arithmetic."""

from __future__ import annotations

import pytest
from datasets import BOOTED, CAPTURED
from hypothesis import example, given
from hypothesis import strategies as st

from hybridbridge_vol.lab.batch.summary.facts import Moments
from hybridbridge_vol.lab.batch.summary.timeline import BINS, TICKS, bins, tick_label, ticks, timeline


@given(st.floats(0, 4e9), st.floats(0.001, 1e10))
@example(5e-324, 6.0)  # a quotient that is rounded to 0
def test_ticks_are_few_and_lie_within(start: float, span: float) -> None:
    found = ticks(start, start + span)
    assert len(found) <= TICKS + 1 and all(start <= at <= start + span for at in found)


@pytest.mark.parametrize(
    ("span", "label"),
    [(600, "12:30:00"), (7200, "12:30"), (3 * 86400, "11-23 12:30"), (86400 * 365, "2026-11-23")],
)
def test_labels_are_as_precise_as_the_span_asks_for(span: float, label: str) -> None:
    assert tick_label(1795437000.0, span) == label


@given(st.lists(st.floats(BOOTED, CAPTURED)))
def test_every_moment_is_in_one_bin(times: list[float]) -> None:
    counts = bins(times, BOOTED, CAPTURED)
    assert len(counts) == BINS and sum(counts) == len(times)


def test_the_first_and_the_last_moment_are_at_the_ends() -> None:
    assert [number for number, count in enumerate(bins([BOOTED, CAPTURED], BOOTED, CAPTURED)) if count] == [
        0,
        BINS - 1,
    ]


def test_without_a_boot_time_there_is_no_timeline_and_an_image_captured_at_boot_has_one() -> None:
    assert timeline(Moments(None, CAPTURED)) is None
    assert timeline(Moments(CAPTURED, CAPTURED, (CAPTURED,))) is not None
