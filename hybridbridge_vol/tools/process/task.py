"""A process or a thread, read as far as a tool asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from errno import ENOENT
from functools import cached_property
from typing import NamedTuple, TypeVar, cast

from hybridbridge_vol.procfs.pid import (
    USER_HZ,
    PidStat,
    PidStatus,
    parse_cmdline,
    parse_stat,
    parse_status,
    text,
)
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import attempt
from hybridbridge_vol.tools.process.machine import Machine
from hybridbridge_vol.units import PAGE_SIZE

T = TypeVar("T")


class Unread(Exception):
    """Something that a cell is made from cannot be read; `cell` says why."""

    def __init__(self, cell: Unavailable) -> None:
        super().__init__(cell.reason)
        self.cell = cell


class _Memory(NamedTuple):
    """What the threads of a process share: bytes of virtual and of resident memory, and whether pages of it
    are locked."""

    size: int
    resident: int
    locked: bool


class Task:
    """A task, whose files below `folder` are read when they are first needed, and once. What cannot be read
    raises `Unread`.

    A task without memory of its own (a kernel thread, a zombie) has an empty `cmdline` and no Vm lines in its
    `status`: its `stat` and the owner of its folder say all, and nothing else is read.
    """

    def __init__(
        self, machine: Machine, pid: int, tid: int, folder: str, process: Task | None = None
    ) -> None:
        self.machine, self.pid, self.tid, self.folder = machine, pid, tid, folder
        self._process = process  # not itself: a cycle would keep a closed session's memory mapped
        self._answers: dict[str, object] = {}

    @property
    def process(self) -> Task:
        """The process that the thread belongs to; a process itself."""
        return self._process or self

    # --- what is read -------------------------------------------------------------------------------------

    def _once(self, call: str, source: str, ask: Callable[[], T]) -> T:
        """The answer of `ask`, which asks `source`, as it was the first time; `call` is its name among the
        sources of answers."""
        if call not in self._answers:
            self._answers[call] = attempt(source, ask)
        found = self._answers[call]
        if isinstance(found, Unavailable):
            raise Unread(found)
        return cast(T, found)

    def read(self, name: str) -> bytes:
        """One of its files."""
        path = f"{self.folder}/{name}"
        return self._once(path, path, lambda: self.machine.kernel.files.read(path))

    def _parsed(self, name: str, parse: Callable[[bytes], T]) -> T:
        data, path = self.read(name), f"{self.folder}/{name}"
        found = attempt(path, lambda: parse(data))
        if isinstance(found, Unavailable):
            raise Unread(found)
        return found

    def link(self, name: str) -> str | None:
        """The target of one of its links; None if it has no such link."""
        path = f"{self.folder}/{name}"

        def ask() -> str | None:
            try:
                return self.machine.kernel.files.readlink(path)
            except OSError as error:
                if error.errno == ENOENT:
                    return None
                raise

        return self._once(f"readlink {path}", path, ask)

    @property
    def owner(self) -> int:
        """The owner of its folder, who is the effective user (fs/proc/base.c, `task_dump_owner`)."""
        ask = self.machine.kernel.files.stat
        return self._once(f"lstat {self.folder}", self.folder, lambda: ask(self.folder)).uid

    @property
    def sources(self) -> list[Source]:
        """The answers that were read so far."""
        return [Source(call) for call, answer in self._answers.items() if not isinstance(answer, Unavailable)]

    # --- what it says -------------------------------------------------------------------------------------

    @cached_property
    def stat(self) -> PidStat:
        """Its `stat`."""
        return self._parsed("stat", parse_stat)

    @cached_property
    def status(self) -> PidStatus:
        """Its `status`."""
        return self._parsed("status", parse_status)

    @cached_property
    def status_lines(self) -> dict[str, str]:
        """The lines of its `status`, by what stands before the colon."""
        return dict(line.split(":\t", 1) for line in text(self.read("status")).split("\n") if ":\t" in line)

    def number(self, key: str, position: int) -> int:
        """A number in a line of `status`; 0 if there is no such line."""
        try:
            return int(self.status_lines[key].split()[position]) if key in self.status_lines else 0
        except (IndexError, ValueError):
            raise Unread(Unavailable(f"{self.folder}/status: no number in the line {key}")) from None

    @property
    def euid(self) -> int:
        """Its effective user."""
        alone = self.process is self and self.stat.vsize
        return self.status.euid if alone else self.owner

    @property
    def used(self) -> float:
        """Seconds of processor time."""
        return (self.stat.utime + self.stat.stime) / USER_HZ

    @property
    def started(self) -> float:
        """Seconds since boot."""
        return self.stat.starttime / USER_HZ

    @property
    def lived(self) -> float | Unavailable:
        """Seconds since it was started."""
        return self.machine.lived(self.stat.starttime)

    @cached_property
    def memory(self) -> _Memory:
        """The process's memory: by `status`, which counts more exactly, and where that cannot be read by
        `stat`."""
        stat = self.process.stat
        if stat.vsize:
            with contextlib.suppress(Unread):
                status = self.process.status
                return _Memory(status.vm_size, status.vm_rss, status.vm_locked > 0)
        return _Memory(stat.vsize, stat.rss * PAGE_SIZE, False)

    @property
    def command(self) -> str:
        """The process's command line; [name] where there is none."""
        stat = self.process.stat
        line = " ".join(parse_cmdline(self.process.read("cmdline"))) if stat.vsize else ""
        return (line or f"[{stat.comm}]") + (" <defunct>" if stat.state in "ZX" else "")

    @property
    def letters(self) -> str:
        """The STAT column: the state and procps's letters, in its order (procps 4, src/ps/output.c,
        `pr_stat`)."""
        stat = self.stat
        return (
            stat.state
            + ("<" if stat.nice < 0 else "N" if stat.nice > 0 else "")
            + ("L" if self.memory.locked else "")
            + ("s" if stat.session == self.pid else "")
            + ("l" if stat.num_threads > 1 else "")
            + ("+" if stat.tpgid == stat.pgrp else "")
        )
