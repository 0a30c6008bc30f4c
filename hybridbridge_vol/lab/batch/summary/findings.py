"""What is unusual in an image by itself: the rules that hold for it, with the rows that they rest on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hybridbridge_vol.lab.batch.summary import rules
from hybridbridge_vol.lab.batch.summary.data import COLUMNS, Cells, Image, text, unreadable
from hybridbridge_vol.lab.batch.summary.listening import is_local, listening_ports
from hybridbridge_vol.lab.batch.summary.processes import is_zombie, poses_as_thread
from hybridbridge_vol.lab.batch.summary.rules import ERROR_LEVELS, Finding, Rule

Rows = Mapping[str, Sequence[Cells]]
"""Rows by tool."""
Select = Callable[[Image, Rows], Iterator[Cells]]
"""The rows on which a rule rests; none where it does not hold."""


class Selection(NamedTuple):
    """A rule, the columns that are shown of its rows, and the rows."""

    rule: Rule
    columns: tuple[str, ...]
    select: Select


def own_findings(image: Image, tables: Rows) -> Iterator[Finding]:
    """All findings of one image that need no other image, in the order of `RULES`."""
    for rule, columns, select in _SELECTIONS:
        rows = tuple(select(image, tables))
        if rows:
            yield Finding(rule, columns, rows)


def is_unlinked(path: str) -> bool:
    """Whether the kernel's name of a file says that it has no directory entry any more, or never had one
    (fs/d_path.c, mm/memfd.c)."""
    return path.endswith("(deleted)") or path.startswith("/memfd:")


def _where(tool: str, holds: Callable[[Cells], bool]) -> Select:
    return lambda _image, tables: (row for row in tables.get(tool, ()) if holds(row))


def _unlinked(_image: Image, tables: Rows) -> Iterator[Cells]:
    names: dict[object, str] = {}
    for row in tables.get("lsof", ()):
        names.setdefault(row.get("PID"), text(row, "COMMAND"))
        if text(row, "FD") == "txt" and is_unlinked(text(row, "NAME")):
            yield _unlinked_row(row.get("PID"), row.get("COMMAND"), "program", row.get("NAME"), "lsof")
    for row in tables.get("ps", ()):
        names.setdefault(row.get("PID"), text(row, "COMM"))
    seen = set()
    for row in tables.get("maps", ()):
        pid, path, permissions = row.get("PID"), text(row, "PATH"), text(row, "PERM")
        if "x" in permissions and is_unlinked(path) and (pid, path) not in seen:
            seen.add((pid, path))
            yield _unlinked_row(pid, names.get(pid, ""), f"mapping {permissions}", path, "maps")


def _unlinked_row(pid: object, command: object, use: str, path: object, tool: str) -> Cells:
    return {"PID": pid, "COMMAND": command, "AS": use, "FILE": path, "BY": tool}


def _listening(local: bool) -> Select:
    return lambda _image, tables: (
        port.row() for port in listening_ports(tables) or () if is_local(port.address) is local
    )


def _incomplete(image: Image, tables: Rows) -> Iterator[Cells]:
    for run in image.tools:
        if run.incomplete:
            reasons = (reason for row in tables.get(run.tool, ()) for reason in unreadable(row).values())
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


def _is_wrong(row: Cells, usual: str) -> bool:
    return text(row, "VERDICT") not in (usual, "")


def _marked(tool: str, *marks: str, column: str = "MARK") -> Select:
    """The rows of a tool that have one of these marks."""
    return _where(tool, lambda row: any(mark in text(row, column) for mark in marks))


def _is_foreign_code(row: Cells) -> bool:
    kinds = text(row, "KIND").split(",")
    return kinds not in ([""], ["deleted"], ["uprobe"]) and "jit" not in kinds


_OF_TRACERS = ("traced", "kprobe", "bpf", "livepatch")
"""What `check` says of code that the kernel's own tracers have changed (check/tracers.py)."""
_MADE_BY_TRACERS = ("BPF program", "trampoline of the tracer", "copy of an instruction for a kprobe")
"""What `hooks` says of code that they have made (tools/kernel_hooks/judge.py)."""


def _code(_image: Image, tables: Rows) -> Iterator[Cells]:
    """What tracers have changed is another rule's, if `hooks` shows for whom."""
    known = ("missing", *_OF_TRACERS) if "hooks" in tables else ("missing",)
    return (row for row in tables.get("check", ()) if text(row, "WHAT") not in known)


def _is_of_tracers(row: Cells) -> bool:
    verdict = text(row, "VERDICT")
    return verdict in (*_MADE_BY_TRACERS, *(f"its code is changed ({what})" for what in _OF_TRACERS))


def _traced(_image: Image, tables: Rows) -> Iterator[Cells]:
    if "hooks" not in tables:
        return
    for row in tables.get("check", ()):
        if text(row, "WHAT") in _OF_TRACERS:
            yield {**{name: row.get(name) for name in ("WHAT", "SYMBOL", "LEADS")}, "BY": "check"}
    for row in tables["hooks"]:
        if _is_of_tracers(row):
            yield {
                "WHAT": row.get("WHAT"),
                "SYMBOL": row.get("SYMBOL"),
                "LEADS": row.get("VERDICT"),
                "BY": "hooks",
            }


_CHECK = ("WHAT", "ADDRESS", "SYMBOL", "EXPECTED", "FOUND", "LEADS")
_HIDDEN = ("KIND", "WHAT", "NAME", "SEEN", "MISSING")
_PS = ("PID", "PPID", "UID", "STAT", "START", "COMM", "CMD")
_MODULE = ("MODULE", "SIZE", "STATE")
_LOG = ("SECONDS", "WHEN", "FACILITY", "LEVEL", "MESSAGE")
_PORT = ("PROTO", "ADDRESS", "PORT", "PID", "PROGRAM", "SOURCE")

_SELECTIONS = (
    Selection(rules.CODE, _CHECK, _code),
    Selection(rules.HIDDEN, _HIDDEN, _where("hidden", lambda row: not unreadable(row))),
    Selection(
        rules.HOOKED,
        COLUMNS["hooks"],
        _where("hooks", lambda row: _is_wrong(row, "trusted") and not _is_of_tracers(row)),
    ),
    Selection(rules.RIGHTS, COLUMNS["credentials"], _where("credentials", lambda row: _is_wrong(row, "ok"))),
    Selection(rules.FOREIGN_CODE, COLUMNS["malfind"], _where("malfind", _is_foreign_code)),
    Selection(rules.POSES, (*_PS, "VSZ"), _where("ps", poses_as_thread)),
    Selection(rules.UNLINKED, ("PID", "COMMAND", "AS", "FILE", "BY"), _unlinked),
    Selection(
        rules.ROOT_ACCOUNTS,
        COLUMNS["users"],
        _where(
            "users",
            lambda row: (
                row.get("KIND") == "account"
                and any(mark in text(row, "MARK") for mark in ("uid 0", "no password", "same uid as"))
            ),
        ),
    ),
    Selection(
        rules.STARTS,
        COLUMNS["persistence"],
        _marked(
            "persistence",
            "in a folder for temporary files",
            "hidden name",
            "hidden file",
            "loaded into every program",
            "sets what libraries are loaded",
            "control characters",
            "module of no package",
        ),
    ),
    Selection(rules.LOGIN_RECORDS, COLUMNS["logins"], _where("logins", lambda row: text(row, "MARK") != "")),
    Selection(
        rules.STARTS_CHANGED,
        COLUMNS["persistence"],
        _marked(
            "persistence",
            "of no package",
            "changed after its package",
            "is writable for everybody",
            "fetches, connects or decodes",
        ),
    ),
    Selection(
        rules.BPF_PROGRAMS,
        COLUMNS["bpf"],
        _marked(
            "bpf",
            "writes memory of processes",
            "replaces what",
            "sends signals",
            "sees listings",
            "sees signals",
            "sees uses of bpf",
            "sees modules",
            "sees credentials",
            "sees secrets",
            "nothing that is known keeps it",
            column="MARKS",
        ),
    ),
    Selection(
        rules.CONTAINERS,
        COLUMNS["containers"],
        _marked(
            "containers",
            "privileged",
            "the host's root at",
            "the engine's socket",
            "the host's pid namespace",
            "the host's mnt namespace",
        ),
    ),
    Selection(rules.TRACED, ("WHAT", "SYMBOL", "LEADS", "BY"), _traced),
    Selection(rules.TAINTED, (*_MODULE, "TAINTS"), _where("lsmod", lambda row: text(row, "TAINTS") != "")),
    Selection(rules.NOT_LIVE, _MODULE, _where("lsmod", lambda row: text(row, "STATE") not in ("Live", ""))),
    Selection(rules.ERRORS, _LOG, _where("dmesg", lambda row: text(row, "LEVEL") in ERROR_LEVELS)),
    Selection(rules.FAILURES, ("TOOL", "STATUS", "ERROR"), _failures),
    Selection(rules.REACHABLE, _PORT, _listening(local=False)),
    Selection(rules.LOOPBACK, _PORT, _listening(local=True)),
    Selection(rules.ZOMBIES, _PS, _where("ps", is_zombie)),
    Selection(rules.INCOMPLETE, ("TOOL", "ROWS", "INCOMPLETE", "FOR EXAMPLE"), _incomplete),
    Selection(rules.UNCHECKED, _CHECK, _where("check", lambda row: text(row, "WHAT") == "missing")),
)
