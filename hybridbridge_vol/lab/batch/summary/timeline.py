"""The timeline of one image: boot, starts of processes, the kernel's log and the capture, on a wall-clock
axis in UTC. This is the geometry; `templates/timeline.svg` draws it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.lab.batch.summary.facts import Moments
from hybridbridge_vol.toolkit.cells import duration, utc

WIDTH, LEFT, RIGHT = 760, 110, 12
LANE, TOP = 26, 8
AXIS = 34
"""Height of the labels below the lanes."""
BINS = 160
TICKS = 5
"""The most ticks on the axis."""
STEPS = (
    0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600,
    43200, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 90 * 86400, 365 * 86400, 5 * 365 * 86400,
)  # fmt: skip
"""Seconds between two ticks."""
_LABELS = ((5 * 86400, "%Y-%m-%d"), (86400, "%m-%d %H:%M"), (1800, "%H:%M"), (0, "%H:%M:%S"))
"""Formats of a tick's label, by the least span (seconds) that they suit."""


class Mark(NamedTuple):
    """Bars of one kind in a lane: the style sheet's class, the title, and SVG path data."""

    style: str
    title: str
    path: str


class Lane(NamedTuple):
    """One line of bars; `base` is the y on which they stand."""

    name: str
    base: int
    marks: tuple[Mark, ...]


class Label(NamedTuple):
    """A vertical line with a text below; `anchor` as SVG's text-anchor."""

    x: float
    text: str
    anchor: str


class Timeline(NamedTuple):
    """The drawing, in units of SVG; `label` says in words what it shows."""

    height: int
    lanes: tuple[Lane, ...]
    ticks: tuple[Label, ...]
    edges: tuple[Label, ...]
    label: str
    caption: str

    @property
    def bottom(self) -> int:
        """The y below the last lane."""
        return TOP + LANE * len(self.lanes)


def timeline(moments: Moments) -> Timeline | None:
    """The drawing; None where boot or capture time are not known."""
    if moments.booted is None or moments.captured is None:
        return None
    start, end = moments.booted, max(moments.captured, moments.booted + 0.001)
    lanes = tuple(_lanes(moments, start, end))
    threads, messages = len(moments.thread_starts), len(moments.log) + len(moments.errors)
    return Timeline(
        height=TOP + LANE * len(lanes) + AXIS,
        lanes=lanes,
        ticks=tuple(
            Label(position(at, start, end), tick_label(at, end - start), "middle") for at in ticks(start, end)
        ),
        edges=(
            Label(position(start, start, end), "boot", "start"),
            Label(position(end, start, end), "capture", "end"),
        ),
        label=f"Boot at {utc(start)}, capture at {utc(end)}: {len(moments.starts)} processes and "
        f"{threads} kernel threads started, {messages} messages in the kernel log, of which "
        f"{len(moments.errors)} are errors.",
        caption=f"Boot {utc(start)}, capture {utc(end)} (up {duration(end - start)}), by the guest's clock. "
        "The height of a bar is the square root of the number.",
    )


def _lanes(moments: Moments, start: float, end: float) -> Iterator[Lane]:
    named = (
        ("processes", (("user", moments.starts),)),
        ("kernel threads", (("thread", moments.thread_starts),)),
        ("kernel log", (("log", moments.log), ("grave", moments.errors))),
    )
    for number, (name, series) in enumerate(named, 1):
        base = TOP + LANE * number
        counted = [(style, len(times), bins(times, start, end)) for style, times in series]
        highest = max((max(counts, default=0) for _, _, counts in counted), default=0)
        yield Lane(
            name,
            base,
            tuple(
                Mark(style, f"{name}: {total}", path)
                for style, total, counts in counted
                if (path := bars_path(counts, highest, base))
            ),
        )


def position(at: float, start: float, end: float) -> float:
    """The x of a moment."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (at - start) / (end - start), 1)


def bins(times: Iterable[float], start: float, end: float) -> list[int]:
    """How many of the times lie in each of BINS equal parts of the span; times outside are not counted."""
    counts = [0] * BINS
    for at in times:
        if start <= at <= end:
            counts[min(int((at - start) / (end - start) * BINS), BINS - 1)] += 1
    return counts


def bars_path(counts: Sequence[int], highest: int, base: int) -> str:
    """The counts as one path of bars that stand on `base`."""
    width = (WIDTH - LEFT - RIGHT) / BINS
    pieces = []
    for number, count in enumerate(counts):
        if count:
            tall = max(4.0, (LANE - 6) * math.sqrt(count / highest))
            pieces.append(f"M{LEFT + number * width:.1f} {base}v-{tall:.0f}h{width:.1f}v{tall:.0f}z")
    return "".join(pieces)


def ticks(start: float, end: float) -> list[float]:
    """Round moments of the span, few enough to be read."""
    step = next((step for step in STEPS if (end - start) / step <= TICKS), None)
    if step is None:
        return []
    numbers = range(math.floor(start / step), math.ceil(end / step) + 1)
    return [at for at in (number * step for number in numbers) if start <= at <= end]


def tick_label(at: float, span: float) -> str:
    """A moment, as precisely as the span asks for."""
    form = next(form for least, form in _LABELS if span > least or least == 0)
    try:
        return time.strftime(form, time.gmtime(at + 1e-6))
    except (OverflowError, ValueError, OSError):
        return ""
