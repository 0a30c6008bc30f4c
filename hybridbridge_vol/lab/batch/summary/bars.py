"""Small bars for the cells of a table: the geometry; `templates/macros.html` draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 100, 10


class Segment(NamedTuple):
    """A piece of a bar: the style sheet's class of its colour, and its outline as SVG path data."""

    style: str
    path: str


class Bar(NamedTuple):
    """A bar of `WIDTH` by `HEIGHT`; `title` is what it shows, in words."""

    title: str
    segments: tuple[Segment, ...]


def shares(parts: Sequence[tuple[str, str, float]]) -> Bar:
    """Parts of a whole: each a name, a class of the style sheet, and a percentage of 0 or more."""
    whole = sum(size for _, _, size in parts)
    segments, x = [], 0.0
    for _, style, size in parts:
        width = WIDTH * size / whole if whole else 0.0
        if width > 0:
            segments.append(Segment(style, f"M{x:.4g} 0h{width:.4g}v{HEIGHT}H{x:.4g}z"))
        x += width
    return Bar(", ".join(f"{name} {size:.0f}%" for name, _, size in parts), tuple(segments))


def length(value: float, longest: float) -> Bar:
    """One bar, as long as the value is relative to the longest."""
    width = WIDTH * value / longest if longest > 0 else 0.0
    segment = Segment("count", f"M0 0h{max(width, 0.5):.4g}v{HEIGHT}H0z")
    return Bar(f"{value:g}", (segment,) if value > 0 else ())
