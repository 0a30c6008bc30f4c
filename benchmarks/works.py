"""What the benchmarks let a session do: tools, native programs, and work that is alike on any kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native.capture import capture
from hybridbridge_vol.native.run import Options
from hybridbridge_vol.native.supervisor import Trace

ARGUMENTS: Mapping[str, Mapping[str, object]] = {"getprocname": {"pid": 1}}
"""What the tools that want an argument are given."""
THREADS = 30
"""Kernel threads that both sides are asked for; the trusted kernel alone has a few more."""
READS = 50

Call = Callable[[], Sequence[object]]


class Work(NamedTuple):
    """Something to be done: `make` gives the call for a session, which returns rows, files or lines."""

    name: str
    make: Callable[[Session], Call]

    def prepare(self, session: Session) -> Call:
        """The call, which asks the kernel each time: what the session has kept of earlier answers is let
        go."""
        call = self.make(session)

        def ask() -> Sequence[object]:
            session.files.of_the_kernel.forget_expected()
            return call()

        return ask


def tool(name: str) -> Work:
    """A tool with its defaults."""
    given = ARGUMENTS.get(name, {})
    words = " ".join(map(str, (name, *given.values())))
    return Work(f"`{words}`", partial(_tool, name, given))


def _tool(name: str, given: Mapping[str, object], session: Session) -> Call:
    loaded = tools.load(name)
    options = loaded.defaults() | dict(given)
    return lambda: list(loaded.rows(session, options))


def alike_everywhere() -> list[Work]:
    """What any kernel does alike: its own threads have no memory and no files."""
    files = [f"/proc/2/{name}" for name in ("stat", "status", "cmdline")]
    return [
        Work(f"`ps --pid` of {THREADS} kernel threads", _ps_of_threads),
        Work(f"`/proc/2/` stat, status, cmdline, {READS} times", partial(_read, files * READS)),
        Work("`/proc/2` listed, attributes of each file", _list),
        Work("`cat /proc/filesystems`", partial(_tool, "cat", {"path": ("/proc/filesystems",)})),
    ]


def _ps_of_threads(session: Session) -> Call:
    pid, ppid = 0, 1
    ps = tools.load("ps")
    rows = [row.cells for row in ps.rows(session, ps.defaults())]
    pids = [row[pid] for row in rows if row[ppid] in (0, 2) and row[pid] != 1][:THREADS]
    if len(pids) < THREADS:
        raise RuntimeError(f"only {len(pids)} kernel threads")
    return _tool("ps", {"pid": pids}, session)


def _read(paths: Sequence[str], session: Session) -> Call:
    return lambda: [session.files.read(path) for path in paths]


def _list(session: Session) -> Call:
    folder = "/proc/2"
    return lambda: [session.files.stat(f"{folder}/{name}") for name in session.files.listdir(folder)]


def program(command: str, folder: str) -> Work:
    """A native program, one of those in a folder, or of this machine."""
    return Work(f"`{command}`", partial(_program, command, folder))


def _program(command: str, folder: str, session: Session, trace: Trace | None = None) -> Call:
    def run() -> Sequence[object]:
        done = capture(session, command.split(), options=Options(folder, trace=trace))
        if done.status or done.failures:
            raise RuntimeError(f"{command}: {done.status}, {done.failures}, {done.stderr.decode()}")
        return done.stdout.splitlines()

    return run


def intercepted(command: str, folder: str, session: Session) -> int:
    """How many of a program's system calls the supervisor answers."""
    calls: list[None] = []
    _program(command, folder, session, lambda _call, _answer: calls.append(None))()
    return len(calls)


def all_of(works: Iterable[Work], name: str) -> Work:
    """One after the other, as one piece of work."""

    def make(session: Session) -> Call:
        calls = [work.prepare(session) for work in works]
        return lambda: [row for call in calls for row in call()]

    return Work(name, make)
