"""Small bars for the cells of a table, as SVG; and the numbers that they stand for as text."""

from __future__ import annotations

from collections.abc import Sequence

from hybridbridge_vol.lab.batch.summary.html import Markup, join, tag

WIDTH = 100


def shares(parts: Sequence[tuple[str, str, float]], unit: str = "%") -> Markup:
    """Parts of a whole, each a name, a class of the style sheet and a size above or equal 0; the names are
    told by `<title>`."""
    whole = sum(size for _, _, size in parts)
    drawn, x = [], 0.0
    for _, kind, size in parts:
        width = WIDTH * size / whole if whole else 0.0
        if width > 0:
            drawn.append(tag("path", d=f"M{x:.4g} 0h{width:.4g}v10H{x:.4g}z", class_=kind))
        x += width
    error_text = ", ".join(f"{name} {size:.0f}{unit}" if unit else name for name, _, size in parts)
    return _bar(error_text, drawn)


def length(value: float, longest: float, error_text: str) -> Markup:
    """One bar, as long as the value is of the longest, with what it tells beside it."""
    width = WIDTH * value / longest if longest > 0 else 0.0
    drawn = [tag("path", d=f"M0 0h{max(width, 0.5):.4g}v10H0z", class_="count")] if value > 0 else []
    return join(_bar(error_text, drawn), tag("span", error_text, class_="n"))


def _bar(error_text: str, drawn: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", error_text),
        *drawn,
        viewBox=f"0 0 {WIDTH} 10",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
    )
