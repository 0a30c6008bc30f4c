"""What few images of a batch have and the others do not: rare by document frequency, as a search engine
counts words.

Names that come with a kernel (its threads and modules) are compared among images of the same kernel, the
others among all images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from hybridbridge_vol.lab.batch.summary import rules
from hybridbridge_vol.lab.batch.summary.facts import Facts, Named
from hybridbridge_vol.lab.batch.summary.rules import FEWEST, SHARE, UPTIME_FACTOR, Finding, Rule


class Comparison(NamedTuple):
    """Names of one kind: the rule, whether only images of the same kernel are compared, and the columns that
    are shown of a row."""

    rule: Rule
    kind: Named
    same_kernel: bool
    columns: tuple[str, ...]


COMPARISONS = (
    Comparison(rules.RARE_PROCESS, "process", False, ("PID", "PPID", "UID", "START", "CMD")),
    Comparison(rules.RARE_THREAD, "thread", True, ("PID", "START", "CMD")),
    Comparison(rules.RARE_MODULE, "module", True, ("SIZE", "STATE", "TAINTS", "BY")),
    Comparison(rules.RARE_TAINT, "taint", False, ("MODULE",)),
    Comparison(rules.RARE_PORT, "port", False, ("ADDRESS", "PID", "PROGRAM", "SOURCE")),
)


def most(images: int) -> int:
    """How many of so many images may have a name that is rare; 0 if the images are too few to tell."""
    return max(1, int(images * SHARE)) if images >= FEWEST else 0


def rare_findings(batch: Sequence[Facts]) -> dict[str, list[Finding]]:
    """Findings by image id, of images that are compared with others."""
    found: dict[str, list[Finding]] = {facts.image.id: [] for facts in batch}
    for comparison in COMPARISONS:
        for group in _groups(batch, comparison):
            for image, finding in _rare_names(group, comparison):
                found[image].append(finding)
    for image, finding in _odd_uptimes(batch):
        found[image].append(finding)
    return found


def _groups(batch: Sequence[Facts], comparison: Comparison) -> Iterator[list[Facts]]:
    """The images that are compared with each other: only those that were asked."""
    groups: dict[str | None, list[Facts]] = {}
    for facts in batch:
        if comparison.kind in facts.names:
            groups.setdefault(facts.image.kernel if comparison.same_kernel else None, []).append(facts)
    yield from groups.values()


def _rare_names(group: list[Facts], comparison: Comparison) -> Iterator[tuple[str, Finding]]:
    seen = Counter(name for facts in group for name in facts.names[comparison.kind])
    for facts in group:
        rows = tuple(
            {**row, "NAME": name, "IMAGES": f"{seen[name]} of {len(group)}"}
            for name, row in sorted(facts.names[comparison.kind].items())
            if seen[name] <= most(len(group))
        )
        if rows:
            yield facts.image.id, Finding(comparison.rule, ("NAME", "IMAGES", *comparison.columns), rows)


def _odd_uptimes(batch: Sequence[Facts]) -> Iterator[tuple[str, Finding]]:
    known = [(facts.image.id, facts.up) for facts in batch if facts.up is not None and facts.up > 0]
    if len(known) < FEWEST:
        return
    middle = median(up for _, up in known)
    for image, up in known:
        if up > middle * UPTIME_FACTOR or up * UPTIME_FACTOR < middle:
            row = {"UP (SECONDS)": round(up, 2), "MEDIAN": round(middle, 2)}
            yield image, Finding(rules.UPTIME, tuple(row), (row,))
