"""What is unusual in an image by itself: each finding is a rule in plain words and the rows it rests on.

A finding says what a table shows and no more: what it means is for the reader to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hybridbridge_vol.lab.batch.summary.data import Cells, Image, text
from hybridbridge_vol.lab.batch.summary.listening import is_local, listening_ports
from hybridbridge_vol.lab.batch.summary.processes import is_zombie, poses_as_thread
from hybridbridge_vol.lab.batch.tables import UNREADABLE

FIRST, THEN, NOTE = range(3)
"""How soon to look: what hardly any healthy machine shows; what few do; what is good to know."""
GRAVE = ("emerg", "alert", "crit", "err")
"""Levels of the kernel's log that are errors or worse (include/linux/kern_levels.h)."""


@dataclass(frozen=True)
class Rule:
    """`needs`: any of these tools; without them the rule says nothing."""

    name: str
    title: str
    words: str
    weight: int
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A rule that holds for an image; `rows` (never empty) with the cells of `columns` to show."""

    rule: Rule
    columns: tuple[str, ...]
    rows: tuple[Cells, ...]


PS = ("PID", "PPID", "UID", "STAT", "START", "COMM", "CMD")

CODE = Rule(
    "check", "Kernel code, tables or gates differ from the trusted package",
    "Rows of check: something of the kernel or of a module is not as in the package that is trusted.", FIRST, ("check",),
)  # fmt: skip
UNCHECKED = Rule(
    "unchecked", "Parts of the kernel could not be checked",
    "Rows of check with WHAT missing: there is nothing to compare with, or it is not in the image.", NOTE, ("check",),
)  # fmt: skip
HIDDEN = Rule(
    "hidden", "Views of the kernel disagree",
    "Rows of hidden: a process, module or socket is in some of the kernel's views and not in others that should show it.",
    FIRST, ("hidden",),
)  # fmt: skip
POSES = Rule(
    "poses", "Process shown like a kernel thread that is none",
    "Its command line is shown in brackets, yet it has memory of its own (VSZ above 0) or its parent is not "
    "kthreadd (process 2). "
    "A command line that was paged out or erased is shown in brackets too.", FIRST, ("ps",),
)  # fmt: skip
UNLINKED = Rule(
    "unlinked", "Runs code from a deleted or memory-only file",
    "lsof shows a program (FD txt), or maps an executable mapping, whose file is marked (deleted) or begins "
    "with /memfd:. "
    "Programs that were upgraded while they ran show the same.", FIRST, ("lsof", "maps"),
)  # fmt: skip
TAINTED = Rule(
    "tainted", "Module with taints",
    "lsmod shows letters in TAINTS: O built out of the kernel's tree, E unsigned, P proprietary, F forced, C staging.", THEN, ("lsmod",),
)  # fmt: skip
NOT_LIVE = Rule(
    "notlive",
    "Module that is being loaded or removed",
    "lsmod shows a STATE other than Live.",
    THEN,
    ("lsmod",),
)
ERRORS = Rule(
    "errors",
    "Errors in the kernel's log",
    "Lines of dmesg of the levels emerg, alert, crit and err.",
    THEN,
    ("dmesg",),
)
REACHABLE = Rule(
    "reachable", "Listens where other machines may reach it",
    "A socket of TCP that listens, or of UDP that is bound and not connected, at an address other than loopback.",
    NOTE, ("lsof", "netstat -a", "ss -a"),
)  # fmt: skip
LOOPBACK = Rule(
    "loopback", "Listens on loopback",
    "The same at 127.0.0.0/8 or ::1: only the machine itself reaches it there.", NOTE, ("lsof", "netstat -a", "ss -a"),
)  # fmt: skip
ZOMBIES = Rule(
    "zombies",
    "Zombies",
    "ps shows state Z: it has ended, and its parent has not asked for how.",
    NOTE,
    ("ps",),
)
GAPS = Rule(
    "gaps",
    "Rows that could not be read in full",
    "A table has cells that could not be read, with the reason.",
    NOTE,
    (),
)
FAILURES = Rule(
    "failures",
    "Tools without a full answer",
    "The manifest says that the tool failed or was cut off.",
    THEN,
    (),
)
RULES = (
    CODE, HIDDEN, POSES, UNLINKED, TAINTED, NOT_LIVE, ERRORS, FAILURES, REACHABLE, LOOPBACK, ZOMBIES, GAPS, UNCHECKED,
)  # fmt: skip

Rows = Mapping[str, Sequence[Cells]]


def own_findings(image: Image, tables: Rows) -> Iterator[Finding]:
    """All findings of one image that need no other image, in the order of RULES."""
    for rule, columns, select in _SELECTIONS:
        rows = tuple(select(image, tables))
        if rows:
            yield Finding(rule, columns, rows)


def _where(tool: str, holds: Callable[[Cells], bool]) -> Callable[[Image, Rows], Iterator[Cells]]:
    return lambda _image, tables: (row for row in tables.get(tool, ()) if holds(row))


def is_unlinked(path: str) -> bool:
    """Whether the kernel names a file so that has no name any more, or never had one (fs/d_path.c,
    mm/memfd.c)."""
    return path.endswith("(deleted)") or path.startswith("/memfd:")


def _unlinked(_image: Image, tables: Rows) -> Iterator[Cells]:
    names: dict[object, str] = {}
    for row in tables.get("lsof", ()):
        names.setdefault(row.get("PID"), text(row, "COMMAND"))
        if text(row, "FD") == "txt" and is_unlinked(text(row, "NAME")):
            yield {
                "PID": row.get("PID"),
                "COMMAND": row.get("COMMAND"),
                "AS": "program",
                "FILE": row.get("NAME"),
                "BY": "lsof",
            }
    for row in tables.get("ps", ()):
        names.setdefault(row.get("PID"), text(row, "COMM"))
    seen = set()
    for row in tables.get("maps", ()):
        key = row.get("PID"), text(row, "PATH")
        if "x" in text(row, "PERM") and is_unlinked(key[1]) and key not in seen:
            seen.add(key)
            yield {
                "PID": key[0], "COMMAND": names.get(key[0], ""), "AS": f"mapping {text(row, 'PERM')}", "FILE": key[1], "BY": "maps",
            }  # fmt: skip


def _listening(local: bool) -> Callable[[Image, Rows], Iterator[Cells]]:
    return lambda _image, tables: (
        row for row in listening_ports(tables) or () if is_local(row["ADDRESS"]) is local
    )


def _gaps(image: Image, tables: Rows) -> Iterator[Cells]:
    for run in image.tools:
        if run.incomplete:
            reasons = (
                reason for row in tables.get(run.tool, ()) for reason in (row.get(UNREADABLE) or {}).values()
            )
            yield {
                "TOOL": run.tool,
                "ROWS": run.rows,
                "INCOMPLETE": run.incomplete,
                "FOR EXAMPLE": next(reasons, None),
            }


def _failures(image: Image, _tables: Rows) -> Iterator[Cells]:
    for run in image.tools:
        if run.status in ("failed", "timeout"):
            yield {"TOOL": run.tool, "STATUS": run.status, "ERROR": run.error}


_CHECK = ("WHAT", "ADDRESS", "SYMBOL", "EXPECTED", "FOUND", "LEADS")
_PORT = ("PROTO", "ADDRESS", "PORT", "PID", "PROGRAM", "SOURCE")
_SELECTIONS: tuple[tuple[Rule, tuple[str, ...], Callable[[Image, Rows], Iterator[Cells]]], ...] = (
    (CODE, _CHECK, _where("check", lambda row: text(row, "WHAT") != "missing")),
    (
        HIDDEN,
        ("KIND", "WHAT", "NAME", "SEEN", "MISSING"),
        _where("hidden", lambda row: not row.get(UNREADABLE)),
    ),
    (POSES, (*PS, "VSZ"), _where("ps", poses_as_thread)),
    (UNLINKED, ("PID", "COMMAND", "AS", "FILE", "BY"), _unlinked),
    (TAINTED, ("MODULE", "SIZE", "STATE", "TAINTS"), _where("lsmod", lambda row: text(row, "TAINTS") != "")),
    (
        NOT_LIVE,
        ("MODULE", "SIZE", "STATE"),
        _where("lsmod", lambda row: text(row, "STATE") not in ("Live", "")),
    ),
    (
        ERRORS,
        ("SECONDS", "WHEN", "FACILITY", "LEVEL", "MESSAGE"),
        _where("dmesg", lambda row: text(row, "LEVEL") in GRAVE),
    ),
    (FAILURES, ("TOOL", "STATUS", "ERROR"), _failures),
    (REACHABLE, _PORT, _listening(local=False)),
    (LOOPBACK, _PORT, _listening(local=True)),
    (ZOMBIES, PS, _where("ps", is_zombie)),
    (GAPS, ("TOOL", "ROWS", "INCOMPLETE", "FOR EXAMPLE"), _gaps),
    (UNCHECKED, _CHECK, _where("check", lambda row: text(row, "WHAT") == "missing")),
)


def not_run(tables: Rows | frozenset[str]) -> list[Rule]:
    """The rules that could say nothing of an image, for no tool that they need has a table."""
    return [
        rule for rule in RULES if rule.needs and not any(tool.split()[0] in tables for tool in rule.needs)
    ]


def number_of(findings: Sequence[Finding], weight: int) -> int:
    """How many findings of a weight there are."""
    return sum(finding.rule.weight == weight for finding in findings)
