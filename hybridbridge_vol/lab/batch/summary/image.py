"""One image's section of the page: what it is, its timeline, its findings, what was run."""

from __future__ import annotations

from collections.abc import Sequence

from hybridbridge_vol.lab.batch.summary.cells import WEIGHTS, finding, number, rows_table, table
from hybridbridge_vol.lab.batch.summary.data import Image
from hybridbridge_vol.lab.batch.summary.facts import Facts
from hybridbridge_vol.lab.batch.summary.findings import NOTE, Finding, number_of
from hybridbridge_vol.lab.batch.summary.html import Markup, join, tag
from hybridbridge_vol.lab.batch.summary.timeline import timeline
from hybridbridge_vol.toolkit.cells import utc

STARTED = ("START", "PID", "PPID", "UID", "CMD")


def anchor(image: Image) -> str:
    """The id of the section."""
    return f"image-{image.id}"


def image_section(facts: Facts, findings: Sequence[Finding], open_: bool) -> Markup:
    """All of one image, to be opened and closed."""
    image = facts.image
    counts = [
        tag("span", f"{count} {word}", class_=f"w w{weight}")
        for weight, word in enumerate(WEIGHTS[:NOTE])
        if (count := number_of(findings, weight))
    ]
    return tag(
        "details",
        tag("summary", tag("b", image.name), *counts, tag("span", image.release, class_="hint")),
        what_it_is(facts),
        moments(facts),
        *(finding(one) for one in findings),
        tag("p", "No rule holds for this image.") if not findings else None,
        tools(image),
        class_="image", id=anchor(image), open=open_,
    )  # fmt: skip


def what_it_is(facts: Facts) -> Markup:
    """The image's own facts."""
    image = facts.image
    size = None if image.size is None else f"{image.size:,} bytes"
    entries = (
        ("file", image.path), ("size", size), ("format", image.format), ("SHA-256", image.sha256), ("kernel", image.banner),
        ("trusted kernel", image.kernel), ("captured", None if image.captured is None else utc(image.captured, 3)),
        ("error", image.error), ("examined by", image.version and f"hybridbridge-vol {image.version}"),
    )  # fmt: skip
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in entries if value))


def moments(facts: Facts) -> Markup:
    """The timeline, or why there is none; the processes that were started last."""
    drawn = timeline(facts.moments)
    if drawn is None:
        drawn = tag(
            "p", "No timeline: it takes the table of uptime, with a boot before the freeze.", class_="hint"
        )
    missing = [tool for tool in ("ps", "dmesg") if tool not in facts.tables]
    last = None
    if facts.started_last:
        last = tag(
            "details", tag("summary", "Processes started last"), rows_table(STARTED, facts.started_last)
        )
    return join(
        tag("h3", "Timeline"),
        drawn,
        tag("p", f"Not run, or no answer: {', '.join(missing)}.", class_="hint") if missing else None,
        last,
    )


def tools(image: Image) -> Markup:
    """What was run and how it went."""
    heads = (
        ("tool", ""),
        ("status", ""),
        ("rows", "num"),
        ("incomplete", "num"),
        ("seconds", "num"),
        ("traps", "num"),
        ("error", ""),
    )
    rows = [
        tag(
            "tr",
            tag("td", run.tool),
            tag("td", run.status, class_="bad" if run.status in ("failed", "timeout") else None),
            number(run.rows),
            number(run.incomplete),
            number(run.seconds, f"{run.seconds:.3f}"),
            number(run.traps),
            tag("td", run.error, class_="raw"),
        )
        for run in image.tools
    ]
    return tag("details", tag("summary", f"Tools that were run ({len(image.tools)})"), table(heads, rows))
