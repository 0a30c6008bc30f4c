"""What few images of a batch have and the others do not: rare by document frequency, as a search engine
counts words.

Names that a kernel brings (its threads, modules) are compared between images of the same kernel only, the
rest between all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from hybridbridge_vol.lab.batch.summary.facts import Facts
from hybridbridge_vol.lab.batch.summary.findings import THEN, Finding, Rule

FEWEST = 4
"""Images that must have been asked before anything is called rare."""
SHARE = 0.1
"""A name is rare if this share of the images have it, or fewer; one image always is few."""
UPTIME_FACTOR = 10

_WORDS = (
    "In at most one image, or one in ten, of those compared ({}). How many have it is in the column IMAGES."
)
_SAME, _ALL = "same kernel", "whole batch"

COMPARED: dict[str, tuple[Rule, bool, tuple[str, ...]]] = {
    "process": (Rule("rare-process", "Process names that few images have", _WORDS.format(_ALL), THEN, ("ps",)), False,
                ("PID", "PPID", "UID", "START", "CMD")),
    "thread": (Rule("rare-thread", "Kernel threads that few images have", _WORDS.format(_SAME), THEN, ("ps",)), True,
               ("PID", "START", "CMD")),
    "module": (Rule("rare-module", "Modules that few images have", _WORDS.format(_SAME), THEN, ("lsmod",)), True,
               ("SIZE", "STATE", "TAINTS", "BY")),
    "taint": (Rule("rare-taint", "Taints of modules that few images have", _WORDS.format(_ALL), THEN, ("lsmod",)), False,
              ("MODULE",)),
    "port": (Rule("rare-port", "Listening ports that few images have", _WORDS.format(_ALL) + " Ports of UDP that the kernel may "
                  "have chosen (32768 and above) are left out.", THEN, ("lsof", "netstat -a", "ss -a")), False,
             ("ADDRESS", "PID", "PROGRAM", "SOURCE")),
}  # fmt: skip
"""By what is compared: the rule, whether among images of the same kernel only, what is shown of a row."""

UPTIME = Rule(
    "uptime", "Was up much longer or shorter than the others",
    f"More than {UPTIME_FACTOR} times, or less than 1/{UPTIME_FACTOR} of, the middle value (median) of the batch.", THEN, ("uptime",),
)  # fmt: skip


def most(images: int) -> int:
    """How many images of so many may have what is rare; 0 if they are too few to tell."""
    return max(1, int(images * SHARE)) if images >= FEWEST else 0


def rare_findings(batch: Sequence[Facts]) -> dict[str, list[Finding]]:
    """Findings by image id, of images that are compared with others."""
    found: dict[str, list[Finding]] = {facts.image.id: [] for facts in batch}
    for kind, (rule, same_kernel, columns) in COMPARED.items():
        groups: dict[str | None, list[Facts]] = {}
        for facts in batch:
            if kind in facts.names:
                groups.setdefault(facts.image.kernel if same_kernel else None, []).append(facts)
        for group in groups.values():
            seen = Counter(name for facts in group for name in facts.names[kind])
            for facts in group:
                rows = tuple(
                    {**row, "NAME": name, "IMAGES": f"{seen[name]} of {len(group)}"}
                    for name, row in sorted(facts.names[kind].items())
                    if seen[name] <= most(len(group))
                )
                if rows:
                    found[facts.image.id].append(Finding(rule, ("NAME", "IMAGES", *columns), rows))
    for image, finding in _uptimes(batch):
        found[image].append(finding)
    return found


def _uptimes(batch: Sequence[Facts]) -> list[tuple[str, Finding]]:
    known = [(facts.image.id, facts.up) for facts in batch if facts.up is not None and facts.up > 0]
    if len(known) < FEWEST:
        return []
    middle = median(up for _, up in known)
    return [
        (
            image,
            Finding(
                UPTIME,
                ("UP (SECONDS)", "MEDIAN"),
                ({"UP (SECONDS)": round(up, 2), "MEDIAN": round(middle, 2)},),
            ),
        )
        for image, up in known
        if up > middle * UPTIME_FACTOR or up * UPTIME_FACTOR < middle
    ]
