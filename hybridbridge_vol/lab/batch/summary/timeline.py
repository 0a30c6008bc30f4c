"""A timeline of one image as SVG: boot, starts of processes, the kernel's log, the freeze; on a wall-clock
axis in UTC."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from hybridbridge_vol.lab.batch.summary.facts import Moments
from hybridbridge_vol.lab.batch.summary.html import Markup, join, tag
from hybridbridge_vol.toolkit.render import duration, utc

WIDTH, LEFT, RIGHT = 760, 110, 12
LANE, TOP = 26, 8
BINS = 160
TICKS = 5
"""The most ticks on the axis."""
STEPS = (
    0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
    86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 90 * 86400, 365 * 86400, 5 * 365 * 86400,
)  # fmt: skip
"""Seconds between two ticks."""


def timeline(moments: Moments) -> Markup | None:
    """The drawing; None where boot or freeze are not known."""
    if moments.booted is None or moments.captured is None:
        return None
    start, end = moments.booted, max(moments.captured, moments.booted + 0.001)
    lanes = (
        ("processes", (("user", moments.starts),)),
        ("kernel threads", (("thread", moments.thread_starts),)),
        ("kernel log", (("log", moments.log), ("grave", moments.grave))),
    )
    height = TOP + LANE * len(lanes) + 34
    drawn: list[Markup] = []
    for number, (name, series) in enumerate(lanes):
        base = TOP + LANE * (number + 1)
        drawn.append(tag("text", name, x=LEFT - 8, y=base - 4, text_anchor="end"))
        drawn.append(tag("path", d=f"M{LEFT} {base}H{WIDTH - RIGHT}", class_="base"))
        highest = max((max(bins(times, start, end), default=0) for _, times in series), default=0)
        for kind, times in series:
            path = bars_path(bins(times, start, end), highest, base)
            if path:
                drawn.append(
                    tag("path", tag("title", f"{name}: {len(times)}"), d=path, class_=f"mark {kind}")
                )
    bottom = TOP + LANE * len(lanes)
    for at in ticks(start, end):
        x = round(position(at, start, end), 1)
        drawn.append(tag("path", d=f"M{x} {TOP}V{bottom + 4}", class_="tick"))
        drawn.append(tag("text", tick_label(at, end - start), x=x, y=bottom + 16, text_anchor="middle"))
    for at, word, anchor in ((start, "boot", "start"), (end, "freeze", "end")):
        x = round(position(at, start, end), 1)
        drawn.append(tag("path", d=f"M{x} {TOP - 4}V{bottom + 20}", class_="edge"))
        drawn.append(tag("text", word, x=x, y=bottom + 31, text_anchor=anchor, class_="strong"))
    label = (
        f"From boot at {utc(start)} to the freeze at {utc(end)}: {len(moments.starts)} processes and "
        f"{len(moments.thread_starts)} kernel threads started, {len(moments.log) + len(moments.grave)} "
        f"messages in the kernel's log, {len(moments.grave)} of them errors."
    )
    svg = tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        class_="timeline",
        role="img",
        aria_label=label,
    )
    caption = f"Boot {utc(start)}, freeze {utc(end)} (up {duration(end - start)}), by the guest's clock. The taller, the more (square root)."
    return join(tag("div", svg, class_="wide"), tag("p", caption, class_="hint"))


def position(at: float, start: float, end: float) -> float:
    """Where a moment stands, from the left."""
    return LEFT + (WIDTH - LEFT - RIGHT) * (at - start) / (end - start)


def bins(times: Iterable[float], start: float, end: float) -> list[int]:
    """How many of the times lie in each of BINS equal parts of the span; what lies outside is not counted."""
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
    """A moment as precisely as the span asks for."""
    form = (
        "%Y-%m-%d"
        if span > 5 * 86400
        else "%m-%d %H:%M"
        if span > 86400
        else "%H:%M"
        if span > 1800
        else "%H:%M:%S"
    )
    try:
        return time.strftime(form, time.gmtime(at + 1e-6))
    except (OverflowError, ValueError, OSError):
        return ""
