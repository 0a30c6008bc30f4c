"""What is called unusual: each rule in plain words. `findings` and `rarity` say where a rule holds.

A rule says what a table shows and no more: what that means is for the reader to find out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from hybridbridge_vol.lab.batch.summary.data import Cells

ERROR_LEVELS = ("emerg", "alert", "crit", "err")
"""Levels of the kernel log that are errors or worse (include/linux/kern_levels.h)."""
FEWEST = 4
"""Images that must have been asked before anything is called rare."""
SHARE = 0.1
"""A name is rare if this share of the images have it, or fewer; a name of one image always is."""
UPTIME_FACTOR = 10
"""By how much an uptime must differ from the median."""


class Weight(IntEnum):
    """How soon to look: at what hardly any healthy machine shows; what few machines show; what is good to
    know."""

    FIRST = 0
    UNUSUAL = 1
    NOTE = 2

    @property
    def label(self) -> str:
        """As the page shows it."""
        return ("look first", "unusual", "note")[self]


@dataclass(frozen=True)
class Rule:
    """`needs`: the rule says nothing without the table of one of these tools (with these options)."""

    name: str
    title: str
    words: str
    weight: Weight
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A rule that holds for an image; `rows` (never empty), of which the cells of `columns` are shown."""

    rule: Rule
    columns: tuple[str, ...]
    rows: tuple[Cells, ...]


CODE = Rule(
    "check",
    "Kernel code, tables or gates differ from the trusted package",
    "Rows of check: something in the kernel or in a module is not as in the trusted package. What the "
    "kernel's own tracers have changed is left out if hooks was run, which shows for whom.",
    Weight.FIRST,
    ("check",),
)
UNCHECKED = Rule(
    "unchecked",
    "Parts of the kernel could not be checked",
    "Rows of check with WHAT missing: there is nothing to compare with, or the memory is not in the image.",
    Weight.NOTE,
    ("check",),
)
TRACED = Rule(
    "traced",
    "Kernel functions are traced, or have eBPF programs attached",
    "Rows of check with WHAT traced, kprobe, bpf or livepatch, and of hooks with the code that the kernel's "
    "tracers have made or changed. Monitoring does this. A handler that is not the trusted package's is a "
    "finding of its own.",
    Weight.UNUSUAL,
    ("hooks",),
)
HIDDEN = Rule(
    "hidden",
    "The kernel's views disagree",
    "Rows of hidden: a process, module or socket is in some of the kernel's lists and not in others that "
    "should have it; executable memory of the kernel that belongs to nobody.",
    Weight.FIRST,
    ("hidden",),
)
HOOKED = Rule(
    "hooks",
    "The kernel calls a function that is not the trusted package's",
    "Rows of hooks whose VERDICT is not trusted: a handler is in no module, in one that the package does "
    "not have, in the middle of a function, or its code was changed, other than by the kernel's own "
    "tracers. Kind pointer are places that lead to such code and are on no list.",
    Weight.FIRST,
    ("hooks",),
)
RIGHTS = Rule(
    "rights",
    "Process with rights that it was not given",
    "Rows of credentials whose VERDICT is not ok: credentials that two processes share, ids that were "
    "written over, root below a parent that is not root.",
    Weight.FIRST,
    ("credentials",),
)
POSES = Rule(
    "poses",
    "Process that looks like a kernel thread but is not one",
    "Its command line is shown in brackets, but it has memory of its own (VSZ above 0) or its parent is not "
    "kthreadd (process 2). A command line that its process erased is shown in brackets too.",
    Weight.FIRST,
    ("ps",),
)
UNLINKED = Rule(
    "unlinked",
    "Runs code from a deleted or memory-only file",
    "lsof shows a program (FD txt), or maps shows an executable mapping, whose file is marked (deleted) or "
    "begins "
    "with /memfd:. Programs that were upgraded while they ran show the same.",
    Weight.FIRST,
    ("lsof", "maps"),
)
FOREIGN_CODE = Rule(
    "malfind",
    "Process with code that no file explains",
    "Rows of malfind: executable memory without a file, on a stack or a heap, in a memory-only or temporary "
    "file, or writable; code that differs from its file; a program that was replaced in its process, or "
    "bears the name of a kernel thread; a shell at a TCP connection; a preloaded library. Left out are "
    "processes with an engine that makes code at run time, files that are only deleted, and breakpoints of "
    "the kernel's uprobes.",
    Weight.FIRST,
    ("malfind",),
)
BPF_PROGRAMS = Rule(
    "bpf",
    "eBPF program that interferes, or sees what rootkits want to see",
    "Rows of bpf with one of these marks: it writes memory of processes, replaces what a function or a "
    "system call returns, sends signals; it sees listings of directories or sockets, signals, uses of bpf, "
    "modules, credentials or secrets of programs; or nothing that is known keeps it. Monitoring software "
    "does some of this, too.",
    Weight.UNUSUAL,
    ("bpf",),
)
TAINTED = Rule(
    "tainted",
    "Module that taints the kernel",
    "lsmod shows letters in TAINTS: O built outside the kernel's tree, E unsigned, P proprietary, F "
    "force-loaded, "
    "C staging driver.",
    Weight.UNUSUAL,
    ("lsmod",),
)
NOT_LIVE = Rule(
    "notlive",
    "Module that is being loaded or unloaded",
    "lsmod shows a STATE other than Live.",
    Weight.UNUSUAL,
    ("lsmod",),
)
ERRORS = Rule(
    "errors",
    "Errors in the kernel log",
    "Lines of dmesg with level emerg, alert, crit or err.",
    Weight.UNUSUAL,
    ("dmesg",),
)
FAILURES = Rule(
    "failures",
    "Tools without a complete answer",
    "The manifest says that the tool failed or timed out.",
    Weight.UNUSUAL,
)
REACHABLE = Rule(
    "reachable",
    "Listens where other machines can connect",
    "A TCP socket that listens, or a UDP socket that is bound and not connected, at an address other than "
    "loopback.",
    Weight.NOTE,
    ("lsof", "netstat -a", "ss -a"),
)
LOOPBACK = Rule(
    "loopback",
    "Listens on loopback",
    "The same at 127.0.0.0/8 or ::1: only the machine itself can connect.",
    Weight.NOTE,
    ("lsof", "netstat -a", "ss -a"),
)
ZOMBIES = Rule(
    "zombies",
    "Zombie processes",
    "ps shows state Z: the process has ended, and its parent has not collected its exit status.",
    Weight.NOTE,
    ("ps",),
)
INCOMPLETE = Rule(
    "incomplete",
    "Rows that could not be read in full",
    "A table has cells that could not be read; each says why.",
    Weight.NOTE,
)

ROOT_ACCOUNTS = Rule(
    "accounts",
    "Account that becomes root, or needs no password",
    "Rows of users: an account with uid 0 that is not root, one that needs no password, or one that has the "
    "uid "
    "of another.",
    Weight.FIRST,
    ("users",),
)
STARTS = Rule(
    "starts",
    "Starts by itself from an unusual place, or loads a library into others",
    "Rows of persistence with one of these marks: in a folder for temporary files, hidden name, hidden file, "
    "loaded into every program, sets what libraries are loaded, control characters, or module of no package.",
    Weight.FIRST,
    ("persistence",),
)
STARTS_CHANGED = Rule(
    "starts-changed",
    "What starts by itself and is not as its package brought it",
    "Rows of persistence with one of these marks: of no package, changed after its package was installed, "
    "file is writable for everybody, program is writable for everybody, fetches, connects or decodes.",
    Weight.UNUSUAL,
    ("persistence",),
)
LOGIN_RECORDS = Rule(
    "login-records",
    "Login records that were changed",
    "Rows of logins: records that were zeroed, or that are older than the one before them.",
    Weight.FIRST,
    ("logins",),
)
CONTAINERS = Rule(
    "containers",
    "Container with power over its host",
    "Rows of containers: privileged, with the host's root directory or the engine's socket mounted in it, "
    "or in the host's pid or mnt namespace.",
    Weight.UNUSUAL,
    ("containers",),
)

_AMONG = (
    f"In at most one image, or one in {1 / SHARE:.0f}, of those compared ({{}}). The column IMAGES says in "
    "how many."
)
_SAME_KERNEL, _WHOLE_BATCH = _AMONG.format("same kernel"), _AMONG.format("whole batch")

RARE_PROCESS = Rule(
    "rare-process", "Process names that few images have", _WHOLE_BATCH, Weight.UNUSUAL, ("ps",)
)
RARE_THREAD = Rule(
    "rare-thread", "Kernel threads that few images have", _SAME_KERNEL, Weight.UNUSUAL, ("ps",)
)
RARE_MODULE = Rule("rare-module", "Modules that few images have", _SAME_KERNEL, Weight.UNUSUAL, ("lsmod",))
RARE_TAINT = Rule(
    "rare-taint", "Taints of modules that few images have", _WHOLE_BATCH, Weight.UNUSUAL, ("lsmod",)
)
RARE_PORT = Rule(
    "rare-port",
    "Listening ports that few images have",
    f"{_WHOLE_BATCH} UDP ports that the kernel may have chosen (32768 and above) are left out.",
    Weight.UNUSUAL,
    ("lsof", "netstat -a", "ss -a"),
)
UPTIME = Rule(
    "uptime",
    "Was up much longer or shorter than the others",
    f"More than {UPTIME_FACTOR} times the median of the batch, or less than 1/{UPTIME_FACTOR} of it.",
    Weight.UNUSUAL,
    ("uptime",),
)

RULES = (
    CODE, HIDDEN, HOOKED, RIGHTS, FOREIGN_CODE, POSES, UNLINKED, ROOT_ACCOUNTS, STARTS, LOGIN_RECORDS,
    STARTS_CHANGED, BPF_PROGRAMS, CONTAINERS, TRACED, TAINTED, NOT_LIVE, ERRORS, FAILURES, REACHABLE,
    LOOPBACK, ZOMBIES, INCOMPLETE, UNCHECKED,
)  # fmt: skip
"""The rules about an image by itself, in the order of the page."""
COMPARING_RULES = (RARE_PROCESS, RARE_THREAD, RARE_MODULE, RARE_TAINT, RARE_PORT, UPTIME)
"""The rules that compare images."""


def not_run(tables: Iterable[str]) -> list[Rule]:
    """Those of `RULES` that say nothing about an image with the tables of these tools."""
    present = set(tables)
    return [
        rule for rule in RULES if rule.needs and present.isdisjoint(need.split()[0] for need in rule.needs)
    ]


def number_of(findings: Iterable[Finding], weight: Weight) -> int:
    """How many findings of a weight there are."""
    return sum(finding.rule.weight == weight for finding in findings)
