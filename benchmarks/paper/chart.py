"""A plain bar chart as SVG: groups of bars, one bar for each series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

COLOURS = ("#1b4f72", "#2e86c1", "#85c1e9", "#b9a44c", "#d35400")
"""Of the series; more series begin anew."""
WIDTH, HEIGHT = 980, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 15, 66, 80
_TICKS = 5
"""About so many lines are drawn across."""
_GAP = 0.25
"""Share of a group that is left empty."""
_SLANT = 35


def bars(title: str, unit: str, series: Sequence[str], groups: Mapping[str, Sequence[float]]) -> str:
    """The chart. `groups` are the values of each, one for each of the series, not negative; a whole number is
    written above its bar. ValueError if a group has another number of
    values, or there is nothing to show."""
    if not series or not groups or any(len(values) != len(series) for values in groups.values()):
        raise ValueError("each group needs a value for each series")
    top, step = scale(max(max(values) for values in groups.values()))
    svg = _canvas(title)
    _grid(svg, top, step, unit)
    _legend(svg, series)
    width = (WIDTH - _LEFT - _RIGHT) / len(groups)
    bar = width * (1 - _GAP) / len(series)
    for number, (name, values) in enumerate(groups.items()):
        left = _LEFT + width * (number + _GAP / 2)
        for place, value in enumerate(values):
            _bar(svg, left + bar * place, bar, value, _height(value, top), place)
        middle, y = left + width * (1 - _GAP) / 2, HEIGHT - _BOTTOM + 16
        _text(svg, name, middle, y, anchor="end", transform=f"rotate(-{_SLANT} {middle:.1f} {y})")
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def scale(most: float) -> tuple[float, float]:
    """Where an axis for values up to `most` ends, and the distance of its ticks: 1, 2 or 5 times a power of
    ten."""
    if most <= 0:
        return 1.0, 1.0
    power = 10.0 ** math.floor(math.log10(most / _TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _TICKS >= most * (1 - 1e-9))
    return step * math.ceil(most / step - 1e-9), step


def _height(value: float, top: float) -> float:
    return (HEIGHT - _TOP - _BOTTOM) * value / top


def _canvas(title: str) -> ElementTree.Element:
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "font-family": "DejaVu Sans, Arial, sans-serif",
            "font-size": "12",
        },
    )
    ElementTree.SubElement(svg, "title").text = title
    ElementTree.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    _text(svg, title, _LEFT, 24, size=15)
    return svg


def _grid(svg: ElementTree.Element, top: float, step: float, unit: str) -> None:
    for number in range(round(top / step) + 1):
        y = HEIGHT - _BOTTOM - _height(number * step, top)
        ends = {"x1": f"{_LEFT}", "x2": f"{WIDTH - _RIGHT}", "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        ElementTree.SubElement(svg, "line", {**ends, "stroke": "#999" if not number else "#ddd"})
        _text(svg, f"{number * step:g}", _LEFT - 6, y + 4, anchor="end")
    _text(svg, unit, _LEFT - 6, _TOP - 14, anchor="end")


def _legend(svg: ElementTree.Element, series: Sequence[str]) -> None:
    for place, name in enumerate(series):
        x = _LEFT + 110.0 * place
        _rectangle(svg, x, 38, 12, 12, place)
        _text(svg, name, x + 17, 48)


def _bar(svg: ElementTree.Element, x: float, width: float, value: float, height: float, place: int) -> None:
    y = HEIGHT - _BOTTOM - height
    _rectangle(svg, x, y, width, height, place)
    if value == round(value):
        _text(svg, f"{value:.0f}", x + width / 2, y - 3, anchor="middle", size=9)


def _rectangle(svg: ElementTree.Element, x: float, y: float, width: float, height: float, place: int) -> None:
    attributes = {
        name: f"{value:.1f}"
        for name, value in zip(("x", "y", "width", "height"), (x, y, width, height), strict=True)
    }
    ElementTree.SubElement(svg, "rect", {**attributes, "fill": COLOURS[place % len(COLOURS)]})


def _text(
    svg: ElementTree.Element,
    text: str,
    x: float,
    y: float,
    anchor: str = "start",
    size: int = 12,
    transform: str = "",
) -> None:
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": f"{size}"}
    if transform:
        attributes["transform"] = transform
    ElementTree.SubElement(svg, "text", attributes).text = text
