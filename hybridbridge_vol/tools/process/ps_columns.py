"""The columns that `ps -o` knows, by procps's keywords for them (procps 4, src/ps/output.c).

Where procps shows names of users, numbers are shown: /etc/passwd is no file of the kernel's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import ENOENT
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError, ParseError
from hybridbridge_vol.guest.values import Question
from hybridbridge_vol.procfs.pid import USER_HZ, PidStat, parse_cmdline, parse_stat, text
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Kind
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Row
from hybridbridge_vol.tools.process.listing import in_parts, numbers
from hybridbridge_vol.tools.process.ps_view import View, percent, state_letters

_CLASSES = ("TS", "FF", "RR", "B", "ISO", "IDL", "DLN", "EXT")
"""Scheduling policies by number, as ps calls them."""
_NORMAL = 0
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class Task:
    """A process or a thread, whose files below `folder` are read when they are first asked for, and then
    kept."""

    def __init__(self, view: View, pid: int, tid: int, folder: str) -> None:
        self.view, self.pid, self.tid, self.folder = view, pid, tid, folder

    def read(self, name: str) -> bytes:
        """One of its files."""
        return self.view.kernel.files.read(f"{self.folder}/{name}")

    @cached_property
    def stat(self) -> PidStat:
        """Its `stat`."""
        return parse_stat(self.read("stat"))

    @cached_property
    def status(self) -> dict[str, str]:
        """The lines of its `status`, by what stands before the colon."""
        return dict(line.split(":\t", 1) for line in text(self.read("status")).split("\n") if ":\t" in line)

    def number(self, key: str, place: int = 0) -> int:
        """A number in a line of `status`; 0 if there is no such line, as a kernel thread has none of
        memory."""
        try:
            return int(self.status[key].split()[place]) if key in self.status else 0
        except (IndexError, ValueError):
            raise ParseError(f"no number in the line {key} of {self.folder}/status") from None

    @property
    def used(self) -> float:
        """Seconds of CPU."""
        return (self.stat.utime + self.stat.stime) / USER_HZ

    @property
    def started(self) -> float:
        """Seconds since boot."""
        return self.stat.starttime / USER_HZ

    @property
    def lived(self) -> Cell:
        """Seconds since it was started."""
        return self.view.lived(self.stat.starttime)

    @property
    def command(self) -> str:
        """The command line; [name] where there is none."""
        line = " ".join(parse_cmdline(self.read("cmdline"))) or f"[{self.stat.comm}]"
        return f"{line} <defunct>" if self.stat.state in "ZX" else line

    def link(self, name: str) -> str | None:
        """Where one of its links leads; None if it has none."""
        try:
            return self.view.kernel.files.readlink(f"{self.folder}/{name}")
        except OSError as error:
            if error.errno == ENOENT:
                return None
            raise


class Field(NamedTuple):
    """A column of `ps -o`, the files (or, behind an @, links) below /proc/PID that it is made of, and how."""

    column: Column
    files: tuple[str, ...]
    get: Callable[[Task], Cell]


def _field(header: str, kind: Kind, help_: str, files: str, get: Callable[[Task], Cell]) -> Field:
    return Field(Column(header, kind, help_), tuple(files.split()), get)


def _share(task: Task) -> Cell:
    lived = task.lived
    return percent(task.used, lived) if isinstance(lived, float | int) else lived


def _started(task: Task) -> Cell:
    booted = task.view.booted
    return booted + task.started if isinstance(booted, float | int) else booted


def _elapsed(task: Task) -> Cell:
    lived = task.lived
    return int(lived) if isinstance(lived, float | int) else lived


def _wchan(task: Task) -> Cell:
    name = text(task.read("wchan")).strip()
    return None if name in ("", "0") else name


def _cgroup(task: Task) -> Cell:
    return ",".join(text(task.read("cgroup")).split("\n")).rstrip(",") or None


def _label(task: Task) -> Cell:
    return text(task.read("attr/current")).rstrip("\n\0") or None


def _letters(task: Task) -> Cell:
    return state_letters(task.tid, task.stat, task.number("VmLck") > 0)


def _namespace(name: str) -> Callable[[Task], Cell]:
    def inode(task: Task) -> Cell:
        target = task.link(f"ns/{name}")
        digits = (target or "").rpartition("[")[2].rstrip("]")
        return int(digits) if digits.isdecimal() else None

    return inode


def _identity(key: str, place: int) -> Callable[[Task], Cell]:
    return lambda task: task.number(key, place)


def _signals(key: str) -> Callable[[Task], Cell]:
    return lambda task: task.status.get(key)


FIELDS: dict[str, Field] = {
    "pid": _field("PID", "int", "process id", "", lambda task: task.pid),
    "tid": _field("TID", "int", "thread id", "", lambda task: task.tid),
    "ppid": _field("PPID", "int", "parent's process id", "stat", lambda task: task.stat.ppid),
    "pgid": _field("PGID", "int", "process group", "stat", lambda task: task.stat.pgrp),
    "sid": _field("SID", "int", "session", "stat", lambda task: task.stat.session),
    "tpgid": _field("TPGID", "int", "foreground group of the terminal", "stat", lambda task: task.stat.tpgid),
    "tty": _field("TTY", "str", "controlling terminal", "stat", lambda task: task.view.tty(task.stat.tty_nr)),
    "nlwp": _field("NLWP", "int", "number of threads", "stat", lambda task: task.stat.num_threads),
    "s": _field("S", "str", "state", "stat", lambda task: task.stat.state),
    "stat": _field("STAT", "str", "state and flags", "stat status", _letters),
    "f": _field("F", "int", "flags: 1 forked and never executed, 4 had super-user's rights", "stat", lambda task: task.stat.flags >> 6 & 7),
    **{
        f"{kind}{name}": _field(f"{kind}{name}".upper(), "int", f"{word} {who} id", "status", _identity(key, place))
        for name, who, key in (("uid", "user", "Uid"), ("gid", "group", "Gid"))
        for place, (kind, word) in enumerate((("r", "real"), ("e", "effective"), ("s", "saved"), ("fs", "file system")))
    },
    "cls": _field("CLS", "str", "scheduling class", "stat", lambda task: (*_CLASSES, *"?" * 32)[task.stat.policy & 31]),
    "ni": _field("NI", "int", "nice, in the usual class", "stat", lambda task: task.stat.nice if task.stat.policy == _NORMAL else None),
    "pri": _field("PRI", "int", "priority, higher is more", "stat", lambda task: 39 - task.stat.priority),
    "rtprio": _field("RTPRIO", "int", "real-time priority", "stat", lambda task: None if task.stat.policy == _NORMAL else task.stat.rt_priority),
    "psr": _field("PSR", "int", "CPU it ran on last", "stat", lambda task: task.stat.processor),
    "lstart": _field("STARTED", "time", "when it was started", "stat", _started),
    "etimes": _field("ELAPSED", "int", "seconds since then", "stat", _elapsed),
    "time": _field("TIME", "duration", "processor time used", "stat", lambda task: task.used),
    "cputimes": _field("SECONDS", "int", "the same in whole seconds", "stat", lambda task: int(task.used)),
    "pcpu": _field("%CPU", "float", "TIME in percent of the time since it was started", "stat", _share),
    "pmem": _field("%MEM", "float", "RSS in percent of the memory", "status", lambda task: percent(task.number("VmRSS") * 1024, task.view.memory)),
    "vsz": _field("VSZ", "int", "virtual memory in KiB", "status", lambda task: task.number("VmSize")),
    "rss": _field("RSS", "int", "resident memory in KiB", "status", lambda task: task.number("VmRSS")),
    "sz": _field("SZ", "int", "virtual memory in pages", "status", lambda task: task.number("VmSize") // 4),
    "min_flt": _field("MINFL", "int", "page faults that needed no disk", "stat", lambda task: task.stat.minflt),
    "maj_flt": _field("MAJFL", "int", "page faults that needed one", "stat", lambda task: task.stat.majflt),
    "wchan": _field("WCHAN", "str", "function of the kernel that it sleeps in", "wchan", _wchan),
    **{
        name: _field(name.upper(), "str", f"signals {help_}, one bit each", "status", _signals(key))
        for name, key, help_ in (
            ("blocked", "SigBlk", "blocked"), ("ignored", "SigIgn", "ignored"), ("caught", "SigCgt", "with a handler"),
        )
    },
    "cgroup": _field("CGROUP", "str", "control groups", "cgroup", _cgroup),
    "label": _field("LABEL", "str", "of the security module", "attr/current", _label),
    **{
        f"{name}ns": _field(f"{name}ns".upper(), "int", f"inode of its {name} namespace", f"@ns/{name}", _namespace(name))
        for name in _NAMESPACES
    },
    "exe": _field("EXE", "str", "path of the program", "@exe", lambda task: task.link("exe")),
    "comm": _field("COMM", "str", "name of the executable, as the kernel keeps it", "stat", lambda task: task.stat.comm),
    "args": _field("CMD", "str", "command line; [name] where there is none", "cmdline stat", lambda task: task.command),
}  # fmt: skip

_ALIASES = {
    "pgrp": "pgid", "sess": "sid", "lwp": "tid", "spid": "tid", "tname": "tty", "tt": "tty", "thcount": "nlwp", "state": "s",
    "flags": "f", "uid": "euid", "gid": "egid", "fuid": "fsuid", "fgid": "fsgid", "class": "cls", "policy": "cls", "nice": "ni",
    "cputime": "time", "times": "cputimes", "%cpu": "pcpu", "%mem": "pmem", "vsize": "vsz", "rssize": "rss", "ucmd": "comm", "ucomm": "comm",
    "cmd": "args", "command": "args", "sigmask": "blocked", "sigignore": "ignored", "sigcatch": "caught",
}  # fmt: skip


def fields_named(keywords: str) -> list[Field]:
    """The fields of a list parted by commas or blanks. OptionError for what is none."""
    found = []
    for word in keywords.replace(",", " ").split():
        name = _ALIASES.get(word.lower(), word.lower())
        if name not in FIELDS:
            raise OptionError(f"--columns {word}: no such column; there are {' '.join(FIELDS)}")
        if FIELDS[name] not in found:
            found.append(FIELDS[name])
    return found


def rows_of(view: View, pids: list[int], fields: list[Field], threads: bool) -> Iterator[Row]:
    """A row for each process, or for each thread."""
    files = list(dict.fromkeys(file for field in fields for file in field.files))

    def answer(part: list[int]) -> list[Row]:
        if not threads:
            view.kernel.files.expect(
                question for pid in part for question in _questions(f"/proc/{pid}", files)
            )
        return [_row(task, fields, files) for pid in part for task in _tasks(view, pid, threads)]

    return chain.from_iterable(view.kernel.workers.map(answer, in_parts(pids)))


def _row(task: Task, fields: list[Field], files: list[str]) -> Row:
    sources = (Source(f"{task.folder}/{name}".replace("/@", "/")) for name in files)
    return Row(tuple(_cell(task, field) for field in fields), sources=tuple(sources))


def _questions(folder: str, files: list[str]) -> Iterator[Question]:
    for name in files:
        yield (
            Question("readlink", f"{folder}/{name[1:]}")
            if name[0] == "@"
            else Question("read", f"{folder}/{name}")
        )


def _tasks(view: View, pid: int, threads: bool) -> Iterator[Task]:
    """The process itself, or each of its threads."""
    try:
        tids = numbers(view.kernel.files.listdir(f"/proc/{pid}/task")) if threads else []
    except UNREADABLE:
        tids = []
    for tid in tids:
        yield Task(view, pid, tid, f"/proc/{pid}/task/{tid}")
    if not tids:  # or they cannot be listed: its own row says why
        yield Task(view, pid, pid, f"/proc/{pid}")


def _cell(task: Task, field: Field) -> Cell:
    try:
        return field.get(task)
    except UNREADABLE as error:
        name = field.files[0].lstrip("@") if field.files else ""
        return why(f"{task.folder}/{name}", error)
