"""A forked child with limits: the events it yields are passed on, and how it ended is a value.

The child is killed when a step takes longer than it may, or when its private memory grows beyond the limit.
Private memory is measured here instead of being limited by the kernel, because RLIMIT_AS and RLIMIT_DATA
count the whole image, which is mapped copy-on-write, whatever part of it is touched; pages of the image's
file are page cache and belong to nobody. What is lost when a child is killed: `_loss` in process.py.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

import msgspec

from hybridbridge_vol.child_process import die_with, fork
from hybridbridge_vol.lab.batch.events import Event, Failed, Step, decode, encode

POLL_SECONDS = 0.1
"""Between two checks: a limit may be exceeded for this long before it is noticed."""

_READ_SIZE = 1 << 16
_FIRST_VICTIM = b"1000"  # proc(5), oom_score_adj

Work = Callable[[], Iterator[Event]]
How = Literal["finished", "timeout", "memory", "crashed"]


@dataclass(frozen=True)
class Limits:
    """`step_seconds`: the wall time of a step, by its name. `memory`: bytes of private memory. `until`: the
    moment of time.monotonic() at which everything must be over."""

    step_seconds: Callable[[str], float]
    memory: int
    until: float = float("inf")


@dataclass(frozen=True)
class Ended:
    """How a child ended: by itself, by a limit, or otherwise (`reason` says how). `step`: what it was doing.
    Seconds of CPU; peak of resident bytes."""

    how: How
    reason: str
    step: str
    cpu_seconds: float
    peak_rss: int


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


class _Finished(msgspec.Struct, frozen=True, tag=True):
    """The child's last line: nothing is missing."""


def supervise(work: Work, take: Callable[[Event], None], limits: Limits, watched: int) -> Ended:
    """Run `work()` in a child and pass each of its events to `take`.

    Abandoned is raised, and the child ended, as soon as the file descriptor `watched` is readable: its other
    end was closed.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    supervisor = os.getpid()
    pid = fork()
    if pid == 0:
        _run(work, write_end, supervisor)
    os.close(write_end)
    child = _Child(pid, limits)
    exceeded: tuple[How, str] | None = None
    try:
        while exceeded is None:
            ready, _, _ = select.select([read_end, watched], [], [], POLL_SECONDS)
            if watched in ready:
                raise Abandoned
            if read_end in ready:
                data = os.read(read_end, _READ_SIZE)
                if not data:
                    break
                child.receive(data, take)
            exceeded = child.exceeded()
    finally:
        os.close(read_end)
        if not child.finished:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _pid, status, usage = os.wait4(pid, 0)
    how, reason = exceeded or ("finished", "")
    if how == "finished" and not child.finished:
        how, reason = "crashed", f"the process that did it {_ending(status)}"
    return Ended(how, reason, child.step, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)


class _Child:
    """What the supervisor knows of its child."""

    def __init__(self, pid: int, limits: Limits) -> None:
        self._pid, self._limits = pid, limits
        self._deadline = limits.until
        self._rest = b""
        """The beginning of a line whose end has not arrived."""
        self.step = ""
        self.finished = False

    def receive(self, data: bytes, take: Callable[[Event], None]) -> None:
        """Pass on the events of complete lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event: Event | _Finished = decode(line, Event | _Finished)
            if isinstance(event, _Finished):
                self.finished = True
                continue
            if isinstance(event, Step):
                self.step = event.name
                seconds = self._limits.step_seconds(event.name)
                self._deadline = min(self._limits.until, time.monotonic() + seconds)
            take(event)

    def exceeded(self) -> tuple[How, str] | None:
        """The limit that the child exceeds, with one line about it."""
        if time.monotonic() > self._deadline:
            if self._deadline == self._limits.until:
                return "timeout", "the image's time was over"
            return "timeout", f"timed out after {self._limits.step_seconds(self.step):g} s"
        if private_bytes(self._pid) > self._limits.memory:
            return "memory", f"ended: it took more than {self._limits.memory >> 20} MiB of memory"
        return None


def private_bytes(pid: int) -> int:
    """Memory of a process that is not backed by a file (RssAnon in proc(5)); 0 if there is no such
    process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            for line in stream:
                if line.startswith(b"RssAnon:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _run(work: Work, write_end: int, parent: int) -> NoReturn:
    """The child: write the events into the pipe and exit. Whatever happens, none of the supervisor's own code
    runs here."""
    status = 1
    try:
        die_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # when memory runs out, this process is the one to end
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as stream:
            stream.write(_FIRST_VICTIM)
        for event in work():
            _write(write_end, event)
        _write(write_end, _Finished())
        status = 0
    except BaseException as error:  # noqa: BLE001  reported to the supervisor
        with contextlib.suppress(OSError):
            _write(write_end, Failed(f"{error} ({type(error).__name__}, a bug)"))
            _write(write_end, _Finished())
    finally:
        os._exit(status)


def _write(write_end: int, message: msgspec.Struct) -> None:
    data = encode(message)
    while data:
        data = data[os.write(write_end, data) :]
