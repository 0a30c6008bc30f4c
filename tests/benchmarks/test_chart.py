"""The bar charts of the benchmarks."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paper.chart import COLOURS, HEIGHT, WIDTH, bars, scale

SVG = "{http://www.w3.org/2000/svg}"
SERIES = ("1st", "2nd")


def drawn(groups: dict[str, list[float]]) -> ElementTree.Element:
    return ElementTree.fromstring(bars("Traps & more", "traps", SERIES, groups))


def of_colour(svg: ElementTree.Element, colour: str) -> list[tuple[float, ...]]:
    """Position and size of the bars of a series, without the legend's."""
    found = [box for box in svg.iter(f"{SVG}rect") if box.get("fill") == colour]
    return [tuple(float(box.get(name, "")) for name in ("x", "y", "width", "height")) for box in found[1:]]


def test_a_bar_is_as_high_as_its_value() -> None:
    svg = drawn({"ps": [20, 10], "lsmod": [5, 0]})
    (first, third), (second, none) = (of_colour(svg, colour) for colour in COLOURS[:2])
    assert first[3] == pytest.approx(2 * second[3], abs=0.2) and first[3] == pytest.approx(
        4 * third[3], abs=0.4
    )
    assert first[1] + first[3] == pytest.approx(second[1] + second[3], abs=0.2)
    assert first[0] < second[0] < third[0] and none[3] == 0


def test_names_and_whole_values_are_written() -> None:
    written = [text.text for text in drawn({"ps": [20, 0.5], "uname": [0, 0]}).iter(f"{SVG}text")]
    assert {"Traps & more", "traps", *SERIES, "ps", "uname", "20"} <= set(written)
    assert "0.5" not in written


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])), st.lists(
        st.floats(0, 1e9), min_size=2, max_size=2), min_size=1, max_size=20)
)  # fmt: skip
def test_every_bar_lies_in_the_picture(groups: dict[str, list[float]]) -> None:
    svg = drawn(groups)
    for colour in COLOURS[:2]:
        for x, y, width, height in of_colour(svg, colour):
            assert 0 <= x and x + width <= WIDTH and 0 <= y and y + height <= HEIGHT


@pytest.mark.parametrize("groups", [{}, {"ps": [1.0]}])
def test_what_does_not_fit_is_refused(groups: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="each group"):
        drawn(groups)


@given(st.floats(1e-6, 1e12))
def test_an_axis_reaches_its_greatest_value_in_a_few_even_steps(most: float) -> None:
    top, step = scale(most)
    assert top >= most * (1 - 1e-9) and 2 <= round(top / step) <= 5
    assert top / step == pytest.approx(round(top / step))


def test_an_axis_without_values() -> None:
    assert scale(0) == (1, 1)
