"""The page: overview, what could not be examined, what is unusual, load, and each image by itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from hybridbridge_vol.lab.batch.summary import bars, look
from hybridbridge_vol.lab.batch.summary.cells import number, table, weight
from hybridbridge_vol.lab.batch.summary.facts import Facts
from hybridbridge_vol.lab.batch.summary.findings import FIRST, RULES, THEN, Finding, not_run, number_of
from hybridbridge_vol.lab.batch.summary.html import Markup, constant, join, tag
from hybridbridge_vol.lab.batch.summary.image import anchor, image_section
from hybridbridge_vol.lab.batch.summary.rarity import COMPARED, FEWEST, UPTIME, rare_findings
from hybridbridge_vol.toolkit.cells import duration, utc

MANY, FEW = 12, 4
"""Images beyond which they are shown closed; beyond which those of one rule are."""

Found = dict[str, list[Finding]]


def page_of(batch: Sequence[Facts]) -> str:
    """The whole page, for images in the order in which they are to be shown."""
    rare = rare_findings(batch)
    found = {
        facts.image.id: sorted((*facts.findings, *rare[facts.image.id]), key=lambda one: one.rule.weight)
        for facts in batch
    }
    style, script = constant(look.STYLE), constant(look.SCRIPT)
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{len(batch)} memory images"),
        tag("style", style),
    )  # fmt: skip
    # images of which something is known by themselves; the others have their line above
    examined = [facts for facts in batch if facts.image.tools]
    body = tag(
        "body",
        tag("h1", "Memory images: summary"),
        cards(batch, found),
        overview(batch, found),
        troubles(batch),
        unusual(batch, found),
        load(batch),
        tag("h2", "Image by image", id="images") if examined else None,
        *(image_section(facts, found[facts.image.id], len(batch) <= MANY) for facts in examined),
        coverage(examined),
        tag("script", script),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def cards(batch: Sequence[Facts], found: Found) -> Markup:
    """The numbers of the batch."""
    numbers = (
        ("images", len(batch)),
        ("kernels", len({facts.image.kernel for facts in batch if facts.image.kernel})),
        ("answered in full", sum(facts.image.status == "ok" for facts in batch)),
        ("in part", sum(facts.image.status == "partial" for facts in batch)),
        ("not examined", sum(facts.image.status == "failed" for facts in batch)),
        ("to look at first", sum(number_of(findings, FIRST) > 0 for findings in found.values())),
    )
    return tag("ul", *(tag("li", tag("b", count), name) for name, count in numbers), class_="cards")


def link(facts: Facts) -> Markup:
    """The image's name, which leads to its section if it has one."""
    name = facts.image.name
    if not facts.image.tools:
        return tag("span", name, title=facts.image.path)
    return tag("a", name, href=f"#{anchor(facts.image)}", title=facts.image.path)


def overview(batch: Sequence[Facts], found: Found) -> Markup:
    """One line for each image."""
    heads = (
        ("image", ""), ("kernel", ""), ("frozen (UTC)", ""), ("look first", "num"), ("unusual", "num"), ("CPUs", "num"),
        ("processes", "num"), ("sockets", "num"), ("modules", "num"), ("seconds", "num"), ("status", ""),
    )  # fmt: skip
    rows = []
    for facts in batch:
        image, findings = facts.image, found[facts.image.id]
        examined = bool(image.tools)
        first, then = number_of(findings, FIRST), number_of(findings, THEN)
        bad = sum(run.status != "ok" for run in image.tools)
        status = image.status if not bad else f"{image.status} ({bad} of {len(image.tools)} tools)"
        rows.append(tag(
            "tr",
            tag("td", link(facts), class_="name"), tag("td", image.release or image.kernel or "unknown"),
            tag("td", "" if image.captured is None else utc(image.captured), class_="when", data_v=f"{image.captured or 0:020.3f}"),
            number(first if examined else None), number(then if examined else None), number(image.cpus),
            number(facts.processes), number(facts.sockets), number(facts.modules),
            number(image.seconds, None if image.seconds is None else f"{image.seconds:.2f}"),
            tag("td", status, class_="bad" if image.status == "failed" else None),
        ))  # fmt: skip
    note = "Sockets are the rows of netstat (or ss) as it was run. An empty cell: the tool was not run, or gave no answer."
    return join(
        tag("h2", "Overview", id="overview"), table(heads, rows, "sortable"), tag("p", note, class_="hint")
    )


def troubles(batch: Sequence[Facts]) -> Markup | None:
    """What could not be examined and why, one line for each unknown kernel; the messages name the way out."""
    groups: dict[tuple[str, str], list[Facts]] = {}
    for facts in batch:
        if facts.image.error:
            message = facts.image.error.removeprefix(f"{facts.image.path}: ")
            groups.setdefault((facts.image.banner or "", message), []).append(facts)
    lost = [(facts, problem) for facts in batch for problem in facts.problems]
    if not groups and not lost:
        return None
    rows = [
        tag(
            "tr",
            number(len(group)),
            tag("td", "unknown kernel" if banner and not group[0].image.kernel else "error", class_="when"),
            tag("td", message, class_="raw words"),
            tag(
                "td",
                tag(
                    "details",
                    tag("summary", "which"),
                    *(tag("div", facts.image.path, class_="hint") for facts in group),
                )
                if len(group) > 1
                else group[0].image.path,
                class_="raw words",
            ),
        )
        for (banner, message), group in groups.items()
    ]
    rows += [
        tag("tr", number(1), tag("td", "table"), tag("td", problem), tag("td", link(facts)))
        for facts, problem in lost
    ]
    heads = (("images", "num"), ("what", ""), ("message, with the way out", ""), ("file", ""))
    return join(tag("h2", "Not examined", id="troubles"), table(heads, rows))


def unusual(batch: Sequence[Facts], found: Found) -> Markup:
    """Each rule with the images for which it holds."""
    rules = sorted(
        (*RULES, *(rule for rule, _, _ in COMPARED.values()), UPTIME), key=lambda rule: rule.weight
    )
    rows = []
    for rule in rules:
        holds = [facts for facts in batch if any(one.rule is rule for one in found[facts.image.id])]
        if holds:
            links = [tag("div", link(facts)) for facts in holds]
            which = tag("details", tag("summary", "which"), *links) if len(holds) > FEW else join(*links)
            rows.append(tag(
                "tr", tag("td", weight(rule)), tag("td", tag("b", rule.title), tag("br"), tag("span", rule.words, class_="hint"), class_="words"),
                number(len(holds)), tag("td", which, class_="name"),
            ))  # fmt: skip
    compared = (
        f"Nothing was compared between images: that takes {FEWEST} at least."
        if sum(bool(facts.tables) for facts in batch) < FEWEST
        else None
    )
    return join(
        tag("h2", "What is unusual", id="unusual"),
        tag(
            "p",
            "Each line is a rule and the images for which it holds. A rule says what a table shows, not what it means.",
            class_="hint",
        ),
        table((("", ""), ("rule", ""), ("images", "num"), ("which", "")), rows)
        if rows
        else tag("p", "No rule holds for any image."),
        tag("p", compared, class_="hint") if compared else None,
    )


def load(batch: Sequence[Facts]) -> Markup | None:
    """Memory, CPU time and counts over the images, as bars."""
    seen = [facts for facts in batch if facts.memory or facts.cpu or facts.processes is not None]
    if not seen:
        return None
    longest = {
        name: max((getattr(facts, name) or 0 for facts in seen), default=0)
        for name in ("processes", "sockets", "modules")
    }
    rows = []
    for facts in seen:
        counts = [
            tag("td", bars.length(count, longest[name], str(count)), class_="key", data_v=count)
            if count is not None
            else tag("td", data_v="")
            for name in longest
            for count in (getattr(facts, name),)
        ]
        rows.append(
            tag(
                "tr",
                tag("td", link(facts), class_="name"),
                memory_cell(facts),
                cpu_cell(facts),
                up_cell(facts),
                *counts,
            )
        )
    heads = (
        ("image", ""),
        ("memory used", "num"),
        ("CPU busy", "num"),
        ("up", "num"),
        *((name, "num") for name in longest),
    )
    key = tag(
        "p", "Memory:", *_key(("used", "used"), ("cache", "buffers and cache"), ("free", "free")),
        " CPU since boot:", *_key(("usr", "user"), ("sys", "kernel"), ("wait", "waiting or stolen"), ("idle", "idle")),
        class_="hint key",
    )  # fmt: skip
    missing = [
        name
        for name, has in (("free", "memory"), ("mpstat", "cpu"))
        if not any(getattr(facts, has) for facts in seen)
    ]
    note = tag("p", f"Not run, or no answer: {', '.join(missing)}.", class_="hint") if missing else None
    return join(
        tag("h2", "Load", id="load"), tag("div", key, class_="wide"), table(heads, rows, "sortable"), note
    )


def _key(*entries: tuple[str, str]) -> list[Markup]:
    return [join(tag("i", class_=kind), name) for kind, name in entries]


def memory_cell(facts: Facts) -> Markup:
    """Shares of the memory, and how much there is."""
    if facts.memory is None:
        return tag("td", data_v="")
    used, cache, free = facts.memory
    whole = (used + cache + free) or 1.0
    bar = bars.shares(
        (
            ("used", "used", used / whole * 100),
            ("buffers and cache", "cache", cache / whole * 100),
            ("free", "free", free / whole * 100),
        )
    )
    return tag("td", bar, tag("span", f"{used / 1024:.0f} MiB", class_="n"), class_="key", data_v=used)


def cpu_cell(facts: Facts) -> Markup:
    """Shares of the CPUs' time."""
    if facts.cpu is None:
        return tag("td", data_v="")
    user, kernel, wait, idle = facts.cpu
    bar = bars.shares(
        (
            ("user", "usr", user),
            ("kernel", "sys", kernel),
            ("waiting or stolen", "wait", wait),
            ("idle", "idle", idle),
        )
    )
    return tag(
        "td", bar, tag("span", f"{user + kernel:.0f} %", class_="n"), class_="key", data_v=user + kernel
    )


def up_cell(facts: Facts) -> Markup:
    """Time since boot."""
    return number(facts.up, None if facts.up is None else duration(facts.up))


def coverage(examined: Sequence[Facts]) -> Markup | None:
    """What the page does not say, for want of a table."""
    lacking: dict[str, tuple[tuple[str, ...], int]] = {}
    for facts in examined:
        for rule in not_run(facts.tables):
            lacking[rule.title] = rule.needs, lacking.get(rule.title, ((), 0))[1] + 1
    ports = sum("port" not in facts.names for facts in examined)
    for rule in RULES:
        if rule.name == "reachable" and ports:
            lacking[rule.title] = rule.needs, ports
    if not lacking:
        return None
    rows = [
        tag(
            "tr",
            tag("td", title),
            tag("td", " or ".join(needs), class_="raw"),
            number(count, f"{count} of {len(examined)}"),
        )
        for title, (needs, count) in lacking.items()
    ]
    return join(
        tag("h2", "What was not asked", id="coverage"),
        tag("p", "Of these images nothing is said by these rules, because none of the tools they need has a table with it. "
            "Run 'hb batch' again with --tools to add them.", class_="hint"),
        table((("rule", ""), ("needs", ""), ("images", "num")), rows),
    )  # fmt: skip
