"""What the page shows, section by section, as plain values. `templates/page.html` lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybridbridge_vol.lab.batch.dataset import ToolRun
from hybridbridge_vol.lab.batch.summary.bars import Bar, length, shares
from hybridbridge_vol.lab.batch.summary.data import Image
from hybridbridge_vol.lab.batch.summary.facts import Facts
from hybridbridge_vol.lab.batch.summary.rarity import rare_findings
from hybridbridge_vol.lab.batch.summary.rows import ShownRows, shown_rows
from hybridbridge_vol.lab.batch.summary.rules import (
    COMPARING_RULES,
    FEWEST,
    LOOPBACK,
    REACHABLE,
    RULES,
    Finding,
    Rule,
    Weight,
    not_run,
    number_of,
)
from hybridbridge_vol.lab.batch.summary.timeline import Timeline, timeline
from hybridbridge_vol.toolkit.cells import duration, utc

MANY, FEW = 12, 4
"""Images beyond which they are shown closed; beyond which those of one rule are."""
STARTED = ("START", "PID", "PPID", "UID", "CMD")

Found = Mapping[str, Sequence[Finding]]
"""The findings of each image by its id, the weightiest first."""


class Link(NamedTuple):
    """An image's name, which leads to its section if it has one."""

    name: str
    path: str
    anchor: str | None


class OverviewRow(NamedTuple):
    """One image in the overview. `first` and `unusual`: the number of findings of these weights, None if it
    was not examined; `captured_key` sorts the column."""

    link: Link
    kernel: str
    captured: str
    captured_key: str
    first: int | None
    unusual: int | None
    facts: Facts
    seconds: str
    status: str
    failed: bool


class Trouble(NamedTuple):
    """One message about images that were not examined, or about a table that could not be read (of
    `link`)."""

    images: int
    what: str
    message: str
    paths: tuple[str, ...]
    link: Link | None = None


class RuleRow(NamedTuple):
    """A rule and the images for which it holds; `closed` if they are too many to be shown at once."""

    rule: Rule
    links: tuple[Link, ...]
    closed: bool


class LoadRow(NamedTuple):
    """One image's memory, CPU time and counts. `counts`: a bar and its number for each of `Facts.counts`;
    None where the tool gave no answer."""

    link: Link
    memory: Bar | None
    used_kib: float | None
    cpu: Bar | None
    busy: float | None
    up: str
    facts: Facts
    counts: tuple[tuple[Bar, int] | None, ...]


class Load(NamedTuple):
    """The section on load; `missing`: the tools that no image has an answer of."""

    rows: tuple[LoadRow, ...]
    missing: tuple[str, ...]


class ShownFinding(NamedTuple):
    """A finding of one image, with the rows that are shown of it."""

    rule: Rule
    total: int
    rows: ShownRows


class ImageSection(NamedTuple):
    """One image by itself. `badges`: `(number of findings, weight)`; `entries`: names and texts of its own
    facts; `missing`: the tools of the timeline that gave no answer."""

    image: Image
    anchor: str
    badges: tuple[tuple[int, Weight], ...]
    entries: tuple[tuple[str, str], ...]
    timeline: Timeline | None
    missing: tuple[str, ...]
    last_started: ShownRows | None
    findings: tuple[ShownFinding, ...]
    runs: tuple[ToolRun, ...]


class Lacking(NamedTuple):
    """A rule that says nothing about so many images, because none of the tools that it needs was run."""

    title: str
    needs: tuple[str, ...]
    images: int


class Page(NamedTuple):
    """The whole page. `compared`: whether there are enough images to compare; `opened`: whether the images'
    sections are shown open."""

    images: int
    cards: tuple[tuple[str, int], ...]
    overview: tuple[OverviewRow, ...]
    troubles: tuple[Trouble, ...]
    rules: tuple[RuleRow, ...]
    compared: bool
    load: Load | None
    sections: tuple[ImageSection, ...]
    opened: bool
    lacking: tuple[Lacking, ...]


def page_view(batch: Sequence[Facts]) -> Page:
    """The page about these images, in their order."""
    rare = rare_findings(batch)
    found = {
        facts.image.id: sorted((*facts.findings, *rare[facts.image.id]), key=lambda one: one.rule.weight)
        for facts in batch
    }
    # images about which nothing is known have only their line in the overview and under troubles
    examined = [facts for facts in batch if facts.image.tools]
    return Page(
        images=len(batch),
        cards=cards(batch, found),
        overview=tuple(overview_row(facts, found[facts.image.id]) for facts in batch),
        troubles=troubles(batch),
        rules=rules(batch, found),
        compared=sum(bool(facts.tables) for facts in batch) >= FEWEST,
        load=load(batch),
        sections=tuple(image_section(facts, found[facts.image.id]) for facts in examined),
        opened=len(batch) <= MANY,
        lacking=lacking(examined),
    )


def link(facts: Facts) -> Link:
    """The link to an image's section."""
    image = facts.image
    return Link(image.name, image.path, anchor(image) if image.tools else None)


def anchor(image: Image) -> str:
    """The id of an image's section."""
    return f"image-{image.id}"


def cards(batch: Sequence[Facts], found: Found) -> tuple[tuple[str, int], ...]:
    """The numbers of the batch."""
    statuses = [facts.image.status for facts in batch]
    return (
        ("images", len(batch)),
        ("kernels", len({facts.image.kernel for facts in batch if facts.image.kernel})),
        ("answered in full", statuses.count("ok")),
        ("in part", statuses.count("partial")),
        ("not examined", statuses.count("failed")),
        ("to look at first", sum(number_of(findings, Weight.FIRST) > 0 for findings in found.values())),
    )


def overview_row(facts: Facts, findings: Sequence[Finding]) -> OverviewRow:
    """One image in the overview."""
    image = facts.image
    bad = sum(run.status != "ok" for run in image.tools)
    return OverviewRow(
        link(facts),
        image.release or image.kernel or "unknown",
        "" if image.captured is None else utc(image.captured),
        f"{image.captured or 0:020.3f}",
        number_of(findings, Weight.FIRST) if image.tools else None,
        number_of(findings, Weight.UNUSUAL) if image.tools else None,
        facts,
        "" if image.seconds is None else f"{image.seconds:.2f}",
        f"{image.status} ({bad} of {len(image.tools)} tools)" if bad else image.status,
        image.status == "failed",
    )


def troubles(batch: Sequence[Facts]) -> tuple[Trouble, ...]:
    """What could not be examined and why, one entry for each message and kernel; messages name the way
    out."""
    groups: dict[tuple[str, str], list[Image]] = {}
    for facts in batch:
        if facts.image.error:
            message = facts.image.error.removeprefix(f"{facts.image.path}: ")
            groups.setdefault((facts.image.banner or "", message), []).append(facts.image)
    found = [
        Trouble(
            len(images),
            "unknown kernel" if banner and not images[0].kernel else "error",
            message,
            tuple(image.path for image in images),
        )
        for (banner, message), images in groups.items()
    ]
    found += [Trouble(1, "table", problem, (), link(facts)) for facts in batch for problem in facts.problems]
    return tuple(found)


def rules(batch: Sequence[Facts], found: Found) -> tuple[RuleRow, ...]:
    """Each rule that holds for any image, the weightiest first."""
    rows = []
    for rule in sorted((*RULES, *COMPARING_RULES), key=lambda rule: rule.weight):
        links = tuple(
            link(facts) for facts in batch if any(one.rule is rule for one in found[facts.image.id])
        )
        if links:
            rows.append(RuleRow(rule, links, len(links) > FEW))
    return tuple(rows)


def load(batch: Sequence[Facts]) -> Load | None:
    """Memory, CPU time and counts of the images; None if no image has any."""
    seen = [facts for facts in batch if facts.memory or facts.cpu or facts.processes is not None]
    if not seen:
        return None
    longest = [max(count or 0 for count in counts) for counts in zip(*(facts.counts for facts in seen))]
    has_memory, has_cpu = any(facts.memory for facts in seen), any(facts.cpu for facts in seen)
    missing = (*["free"] * (not has_memory), *["mpstat"] * (not has_cpu))
    return Load(tuple(load_row(facts, longest) for facts in seen), missing)


def load_row(facts: Facts, longest: Sequence[int]) -> LoadRow:
    """One image's load; `longest` are the greatest counts of all images."""
    memory = None if facts.memory is None else memory_bar(*facts.memory)
    cpu = None if facts.cpu is None else cpu_bar(*facts.cpu)
    used = None if facts.memory is None else facts.memory[0]
    busy = None if facts.cpu is None else facts.cpu[0] + facts.cpu[1]
    counts = [
        None if count is None else (length(count, most), count)
        for count, most in zip(facts.counts, longest, strict=True)
    ]
    up = "" if facts.up is None else duration(facts.up)
    return LoadRow(link(facts), memory, used, cpu, busy, up, facts, tuple(counts))


def memory_bar(used: float, cache: float, free: float) -> Bar:
    """Shares of the memory."""
    percent = 100 / ((used + cache + free) or 1.0)
    return shares(
        (
            ("used", "used", used * percent),
            ("buffers and cache", "cache", cache * percent),
            ("free", "free", free * percent),
        )
    )


def cpu_bar(user: float, kernel: float, wait: float, idle: float) -> Bar:
    """Shares of the CPUs' time, given in percent."""
    return shares(
        (
            ("user", "usr", user),
            ("kernel", "sys", kernel),
            ("waiting or stolen", "wait", wait),
            ("idle", "idle", idle),
        )
    )


def image_section(facts: Facts, findings: Sequence[Finding]) -> ImageSection:
    """All of one image."""
    image = facts.image
    entries = (
        ("file", image.path),
        ("size", None if image.size is None else f"{image.size:,} bytes"),
        ("format", image.format),
        ("SHA-256", image.sha256),
        ("kernel", image.banner),
        ("trusted kernel", image.kernel),
        ("captured", None if image.captured is None else utc(image.captured, 3)),
        ("error", image.error),
        ("examined by", image.version and f"hybridbridge-vol {image.version}"),
    )
    badges = ((number_of(findings, weight), weight) for weight in Weight)
    return ImageSection(
        image=image,
        anchor=anchor(image),
        badges=tuple((count, weight) for count, weight in badges if count and weight is not Weight.NOTE),
        entries=tuple((name, value) for name, value in entries if value),
        timeline=timeline(facts.moments),
        missing=tuple(tool for tool in ("ps", "dmesg") if tool not in facts.tables),
        last_started=shown_rows(STARTED, facts.started_last) if facts.started_last else None,
        findings=tuple(
            ShownFinding(one.rule, len(one.rows), shown_rows(one.columns, one.rows)) for one in findings
        ),
        runs=image.tools,
    )


def lacking(examined: Sequence[Facts]) -> tuple[Lacking, ...]:
    """The rules that the page cannot apply to some images, for want of a table."""
    silent = [not_run(facts.tables) for facts in examined]
    no_ports = sum("port" not in facts.names for facts in examined)
    counts = {rule: sum(rule in rules for rules in silent) for rule in RULES}
    counts |= dict.fromkeys((REACHABLE, LOOPBACK), no_ports)  # a table need not show listening sockets
    return tuple(Lacking(rule.title, rule.needs, count) for rule, count in counts.items() if count)
