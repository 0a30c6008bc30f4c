"""The columns of ps: each keyword of `ps -o`, what it is made from, and how.

Keywords and headers are those of procps 4 (library/pids.c, src/ps/output.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Cell, Kind, Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.process.machine import percent
from hybridbridge_vol.tools.process.task import Task, Unread

_CLASSES = ("TS", "FF", "RR", "B", "ISO", "IDL", "DLN", "EXT")
"""Scheduling policies by number, as ps calls them."""
_NORMAL = 0
_IDENTITIES = (("r", "real"), ("e", "effective"), ("s", "saved"), ("fs", "file system"))
"""In the order of the lines Uid and Gid in /proc/PID/status."""
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class Field(NamedTuple):
    """A column of ps and how its cells are made. `files` are the files below /proc/PID that they are made
    from: "@name" is a link, "" the folder itself. `without_memory` are those for a task without memory of its
    own."""

    column: Column
    get: Callable[[Task], Cell]
    files: tuple[str, ...]
    without_memory: tuple[str, ...]

    def cell(self, task: Task) -> Cell:
        """A task's cell."""
        try:
            return self.get(task)
        except Unread as unread:
            return unread.cell

    def renamed(self, header: str) -> Field:
        """The same under another header."""
        return self._replace(column=self.column._replace(name=header))


def _field(
    header: str,
    kind: Kind,
    help_: str,
    files: str,
    get: Callable[[Task], Cell],
    without_memory: tuple[str, ...] | None = None,
) -> Field:
    """`files` separated by blanks; `without_memory` where it differs."""
    names = tuple(files.split())
    return Field(Column(header, kind, help_), get, names, names if without_memory is None else without_memory)


# --- cells that take more than one expression -------------------------------------------------------------


def _started(task: Task) -> Cell:
    started, booted = task.started, task.machine.booted
    return booted if isinstance(booted, Unavailable) else booted + started


def _elapsed(task: Task) -> Cell:
    lived = task.lived
    return lived if isinstance(lived, Unavailable) else int(lived)


def _wchan(task: Task) -> Cell:
    name = text(task.read("wchan")).strip()
    return None if name in ("", "0") else name


def _cgroup(task: Task) -> Cell:
    return ",".join(text(task.read("cgroup")).split("\n")).rstrip(",") or None


def _label(task: Task) -> Cell:
    return text(task.read("attr/current")).rstrip("\n\0") or None


def _class(task: Task) -> Cell:
    return _CLASSES[task.stat.policy] if 0 <= task.stat.policy < len(_CLASSES) else "?"


def _nice(task: Task) -> Cell:
    return task.stat.nice if task.stat.policy == _NORMAL else None


def _real_time_priority(task: Task) -> Cell:
    return None if task.stat.policy == _NORMAL else task.stat.rt_priority


def _namespace(name: str) -> Callable[[Task], Cell]:
    def inode(task: Task) -> Cell:
        digits = (task.link(f"ns/{name}") or "").rpartition("[")[2].rstrip("]")
        return int(digits) if digits.isdecimal() else None

    return inode


def _identity(key: str, position: int) -> Callable[[Task], Cell]:
    return lambda task: task.number(key, position)


def _name_of(name: str, key: str, position: int) -> Callable[[Task], Cell]:
    def named(task: Task) -> Cell:
        number, accounts = task.number(key, position), task.machine.accounts
        return accounts.user(number) if name == "user" else accounts.group(number)

    return named


def _signals(key: str) -> Callable[[Task], Cell]:
    return lambda task: task.status_lines.get(key)


# --- the table --------------------------------------------------------------------------------------------

_MEMORY = "stat status"
_ONLY_STAT = ("stat",)
_STATE_HELP = (
    "state (R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, I idle) and flags: "
    "< high priority, N nice, L pages locked, s session leader, l multi-threaded, + foreground"
)

FIELDS: dict[str, Field] = {
    "pid": _field("PID", "int", "process id", "", lambda task: task.pid),
    "tid": _field("TID", "int", "thread id", "", lambda task: task.tid),
    "ppid": _field("PPID", "int", "parent's process id", "stat", lambda task: task.stat.ppid),
    "pgid": _field("PGID", "int", "process group", "stat", lambda task: task.stat.pgrp),
    "sid": _field("SID", "int", "session", "stat", lambda task: task.stat.session),
    "tpgid": _field(
        "TPGID", "int", "foreground process group of the terminal", "stat", lambda task: task.stat.tpgid
    ),
    "tty": _field(
        "TTY", "str", "controlling terminal, `?` for none", "stat",
        lambda task: task.machine.tty(task.stat.tty_nr),
    ),
    "nlwp": _field("NLWP", "int", "number of threads", "stat", lambda task: task.stat.num_threads),
    "s": _field("S", "str", "state", "stat", lambda task: task.stat.state),
    "stat": _field("STAT", "str", _STATE_HELP, _MEMORY, lambda task: task.letters, _ONLY_STAT),
    "f": _field(
        "F", "int", "flags: 1 forked but never executed a program, 4 used super-user rights", "stat",
        lambda task: task.stat.flags >> 6 & 7,
    ),
    **{
        f"{kind}{name}": _field(
            f"{kind}{name}".upper(), "int", f"{word} {who} id", "status", _identity(key, position)
        )
        for name, who, key in (("uid", "user", "Uid"), ("gid", "group", "Gid"))
        for position, (kind, word) in enumerate(_IDENTITIES)
    },
    **{
        f"{kind}{name}": _field(
            f"{kind}{name}".upper(), "str", f"{word} {name}: its name in the guest's own files, or #ID",
            "status", _name_of(name, key, position),
        )
        for name, key in (("user", "Uid"), ("group", "Gid"))
        for position, (kind, word) in enumerate(_IDENTITIES)
    },
    "euid": _field("EUID", "int", "effective user id", _MEMORY, lambda task: task.euid, ("stat", "")),
    "cls": _field("CLS", "str", "scheduling class", "stat", _class),
    "ni": _field("NI", "int", "nice value, in the normal scheduling class", "stat", _nice),
    "pri": _field("PRI", "int", "priority, higher is more", "stat", lambda task: 39 - task.stat.priority),
    "rtprio": _field("RTPRIO", "int", "real-time priority", "stat", _real_time_priority),
    "psr": _field("PSR", "int", "CPU that it ran on last", "stat", lambda task: task.stat.processor),
    "lstart": _field("STARTED", "time", "when it was started", "stat", _started),
    "etimes": _field("ELAPSED", "int", "seconds since it was started", "stat", _elapsed),
    "time": _field("TIME", "duration", "processor time used", "stat", lambda task: task.used),
    "cputimes": _field(
        "SECONDS", "int", "processor time used, in whole seconds", "stat", lambda task: int(task.used)
    ),
    "pcpu": _field(
        "%CPU", "float", "TIME in percent of the time since it was started", "stat",
        lambda task: percent(task.used, task.lived),
    ),
    "pmem": _field(
        "%MEM", "float", "RSS in percent of the memory", _MEMORY,
        lambda task: percent(task.memory.resident, task.machine.memory), _ONLY_STAT,
    ),
    "vsz": _field(
        "VSZ", "int", "virtual memory in KiB", _MEMORY, lambda task: task.memory.size // 1024, _ONLY_STAT
    ),
    "rss": _field(
        "RSS", "int", "resident memory in KiB", _MEMORY, lambda task: task.memory.resident // 1024, _ONLY_STAT
    ),
    "sz": _field(
        "SZ", "int", "virtual memory in pages", _MEMORY, lambda task: task.memory.size // 4096, _ONLY_STAT
    ),
    "min_flt": _field(
        "MINFL", "int", "page faults that needed no disk", "stat", lambda task: task.stat.minflt
    ),
    "maj_flt": _field(
        "MAJFL", "int", "page faults that needed a disk", "stat", lambda task: task.stat.majflt
    ),
    "wchan": _field("WCHAN", "str", "kernel function that it sleeps in", "wchan", _wchan),
    **{
        name: _field(name.upper(), "str", f"signals {help_}, one bit each", "status", _signals(key))
        for name, key, help_ in (
            ("blocked", "SigBlk", "blocked"), ("ignored", "SigIgn", "ignored"),
            ("caught", "SigCgt", "with a handler"),
        )
    },
    "cgroup": _field("CGROUP", "str", "control groups", "cgroup", _cgroup),
    "label": _field("LABEL", "str", "label of the security module", "attr/current", _label),
    **{
        f"{name}ns": _field(
            f"{name}ns".upper(), "int", f"inode of its {name} namespace", f"@ns/{name}", _namespace(name)
        )
        for name in _NAMESPACES
    },
    "exe": _field("EXE", "str", "path of the program", "@exe", lambda task: task.link("exe")),
    "comm": _field(
        "COMM", "str", "name of the executable, as the kernel stores it", "stat", lambda task: task.stat.comm
    ),
    "args": _field(
        "CMD", "str", "command line; [name] where there is none", "stat cmdline", lambda task: task.command,
        _ONLY_STAT,
    ),
}  # fmt: skip

_ALIASES = {
    "pgrp": "pgid", "sess": "sid", "lwp": "tid", "spid": "tid", "tname": "tty", "tt": "tty",
    "thcount": "nlwp", "state": "s", "flags": "f", "uid": "euid", "gid": "egid", "fuid": "fsuid",
    "fgid": "fsgid", "user": "euser", "group": "egroup", "uname": "euser", "fuser": "fsuser",
    "fgroup": "fsgroup", "class": "cls", "policy": "cls", "nice": "ni", "cputime": "time",
    "times": "cputimes",
    "%cpu": "pcpu", "%mem": "pmem", "vsize": "vsz", "rssize": "rss", "ucmd": "comm", "ucomm": "comm",
    "cmd": "args", "command": "args", "sigmask": "blocked", "sigignore": "ignored", "sigcatch": "caught",
}  # fmt: skip


def fields_named(keywords: str) -> list[Field]:
    """The fields of a list separated by commas or blanks. OptionError for a word that names none."""
    found = []
    for word in keywords.replace(",", " ").split():
        name = _ALIASES.get(word.lower(), word.lower())
        if name not in FIELDS:
            raise OptionError(f"--columns {word}: no such column; there are {' '.join(FIELDS)}")
        if FIELDS[name] not in found:
            found.append(FIELDS[name])
    return found


def files_for(fields: Iterable[Field], with_memory: bool) -> list[str]:
    """The files below /proc/PID that cells of these fields are made from, each once."""
    files: Iterator[str] = (
        file for field in fields for file in (field.files if with_memory else field.without_memory)
    )
    return list(dict.fromkeys(files))
