"""The program's own processes and threads: which belong together, and what each has of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from dataclasses import dataclass, field

from hybridbridge_vol.native import vdso
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.launch import take_descriptor
from hybridbridge_vol.native.notifications import Call

MAX_PROCESSES = 256
"""Processes and threads of the program at one time."""
_COUNT_EVERY = 64
"""New processes that are granted before those that live are counted."""
_MAX_ROUNDS = 200
_MAX_FILE = 16 << 20
"""Bytes of a file below /proc/self."""


@dataclass
class Process:
    """A process. `folder` is its current directory, a path of the image's."""

    pid: int
    folder: str = "/"
    pidfd: int = -1
    loader: range | None = None
    """Where its dynamic linker lies; None: not known yet."""
    clock_base: int = -1
    """CLOCK_MONOTONIC of the host, in nanoseconds, when it first asked for it; -1: it has not."""
    has_threads: bool = False
    threads: set[int] = field(default_factory=set)


class Processes:
    """All of them. Those whose parent has ended become children of this process meanwhile. `linker`: the
    dynamic linker that was started as a program, if one was."""

    def __init__(self, linker: str = "") -> None:
        self._linker = os.path.realpath(linker) if linker else ""
        self._known: dict[int, Process] = {}
        self._of_thread: dict[int, Process] = {}
        self._granted = self._alive = 0

    def of(self, tid: int) -> Process:
        """The process of a thread. OSError if it has ended."""
        found = self._of_thread.get(tid)
        if found is None:
            pid, parent = _pid_and_parent(tid)
            found = self._known.get(pid)
            if found is None:
                found = self._known[pid] = Process(pid)
                above = self._known.get(parent)
                if above is not None and parent != pid:
                    found.folder, found.loader = above.folder, above.loader
            self._of_thread[tid] = found
            found.threads.add(tid)
        return found

    def has(self, pid: int) -> bool:
        """Whether this is a process or thread of the program's. One that has not asked for anything yet is
        not known: it is a descendant of this process that has one filter more, as all between them have."""
        if pid in self._known:
            return os.path.exists(f"/proc/{pid}")
        own = os.getpid()
        with contextlib.suppress(OSError, KeyError):
            filters = _status(own).get(b"Seccomp_filters", 0)
            for _ in range(MAX_PROCESSES):
                status = _status(pid)
                if status[b"Seccomp_filters"] <= filters:
                    return False
                pid = status[b"PPid"]
                if pid == own:
                    return True
        return False

    def take(self, tid: int, number: int) -> int:
        """A copy of a descriptor of the program's. OSError."""
        process = self.of(tid)
        if process.pidfd < 0:
            process.pidfd = os.pidfd_open(process.pid)
        return take_descriptor(process.pidfd, number)

    def descriptors(self, tid: int) -> list[int]:
        """The numbers of a process's descriptors. OSError."""
        return [int(name) for name in os.listdir(f"/proc/{self.of(tid).pid}/fd")]

    def own_file(self, tid: int, name: str) -> bytes:
        """What a process's `maps`, `auxv` or another file below its /proc/self holds. OSError."""
        with open(f"/proc/{self.of(tid).pid}/{name}", "rb") as file:
            return file.read(_MAX_FILE)

    def own_link(self, tid: int, name: str) -> bytes:
        """Where its `exe` or `fd/N` leads. OSError."""
        return os.fsencode(os.readlink(f"/proc/{self.of(tid).pid}/{name}"))

    def stop_clocks(self, tid: int) -> None:
        """Have the clocks that a program reads without a system call ask, too. OSError."""
        vdso.patch(tid)

    def is_loader(self, call: Call) -> bool:
        """Whether the dynamic linker made a call."""
        process = self.of(call.tid)
        if process.loader is None:
            process.loader = _loader_of(process.pid, self._linker)
        return call.pc in process.loader

    def becomes_another(self, tid: int) -> None:
        """The process executes another program now."""
        process = self.of(tid)
        process.loader, process.clock_base, process.has_threads = None, -1, False

    def may_have_another(self) -> bool:
        """Whether one more process or thread may be started."""
        self._forget_ended()
        self._granted += 1
        if self._granted >= _COUNT_EVERY or self._alive + self._granted > MAX_PROCESSES:
            self._alive, self._granted = sum(self._descendants().values()), 1
        return self._alive + self._granted <= MAX_PROCESSES

    def _forget_ended(self) -> None:
        for process in list(self._known.values()):
            if not os.path.exists(f"/proc/{process.pid}"):
                self._forget(process)

    def _forget(self, process: Process) -> None:
        del self._known[process.pid]
        for tid in process.threads:
            self._of_thread.pop(tid, None)
        if process.pidfd >= 0:
            os.close(process.pidfd)

    def _descendants(self) -> dict[int, int]:
        """Those descendants of this process that have one filter more than it, with their threads; those that
        have ended have none."""
        children: dict[int, list[int]] = {}
        threads: dict[int, int] = {}
        filters = _status(os.getpid()).get(b"Seccomp_filters", 0)
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with contextlib.suppress(OSError):
                    status = _status(int(name))
                    children.setdefault(status[b"PPid"], []).append(int(name))
                    if status[b"Seccomp_filters"] > filters:
                        threads[int(name)] = status[b"Threads"]
        waiting, found = [os.getpid()], dict[int, int]()
        while waiting:
            pid = waiting.pop()
            waiting += children.pop(pid, [])
            if pid in threads:
                found[pid] = threads[pid]
        return found

    def end_all(self) -> None:
        """Kill what is left of the program, its background processes too."""
        for _ in range(_MAX_ROUNDS):  # new ones may be started meanwhile
            left = self._descendants()
            if not left:
                break
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with contextlib.suppress(OSError):  # those that have become this process's children
                    os.waitpid(pid, 0)
        for process in list(self._known.values()):
            self._forget(process)


_STATUS = re.compile(rb"^(Tgid|PPid|Threads|Seccomp_filters):\t(\d+)$", re.MULTILINE)
_ENDED = b"\nState:\tZ"


def _status(pid: int) -> dict[bytes, int]:
    """Numbers in /proc/PID/status (proc(5)); one that has ended has no threads. OSError if there is no such
    process."""
    with open(f"/proc/{pid}/status", "rb") as file:
        text = file.read()
    found = {name: int(value) for name, value in _STATUS.findall(text)}
    return found | ({b"Threads": 0} if _ENDED in text else {})


def _pid_and_parent(tid: int) -> tuple[int, int]:
    try:
        status = _status(tid)
        return status[b"Tgid"], status[b"PPid"]
    except (OSError, KeyError):
        raise failed(errno.ESRCH) from None


def _loader_of(pid: int, linker: str) -> range:
    """The addresses of a process's dynamic linker; none if it has none. The kernel names none where `linker`
    itself was started."""
    try:
        base = vdso.auxiliary_vector(pid).get(vdso.AT_BASE, 0)
        if not base and (not linker or os.readlink(f"/proc/{pid}/exe") != linker):
            return range(0)
        with open(f"/proc/{pid}/maps") as file:
            mapped = [line.rstrip("\n").split(None, 5) for line in file]
    except OSError:
        return range(0)
    spans = [(range(*(int(word, 16) for word in fields[0].split("-"))), fields[5:]) for fields in mapped]
    return _loader_among(spans, base, linker)


def _loader_among(spans: list[tuple[range, list[str]]], base: int, linker: str) -> range:
    """Of mappings with their names those of the file at `base`, or of `linker` if that is 0."""
    if not base:
        base = next((span.start for span, name in spans if name == [linker]), 0)
    name = next((name for span, name in spans if span.start == base), [])
    ends = [span.stop for span, other in spans if span.start >= base and other == name and other]
    return range(base, max(ends, default=base))
