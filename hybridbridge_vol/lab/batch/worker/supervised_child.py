"""A forked child under limits: what it yields is passed on, and why it ended early is a value.

The child is killed when a step takes longer than it may, or when its private memory grows beyond the limit.
Private memory is what is watched, and not limited by the kernel: RLIMIT_AS and RLIMIT_DATA count the whole
image that is mapped copy-on-write, whatever of it is touched, and pages of the image's file cost nobody
anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

POLL_SECONDS = 0.1
"""How late memory and time may be noticed."""

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_READ_SIZE = 1 << 16
_FIRST_VICTIM = b"1000"  # proc(5), oom_score_adj

Events = Iterator[tuple[str, Any]]
Limit = Callable[[str], float]
"""The wall seconds that a step may take."""


@dataclass(frozen=True)
class Ended:
    """How a child ended: by itself, by a limit, or otherwise (`reason` tells how). `step` is what it was
    doing. Seconds of CPU; bytes that were resident at the most."""

    how: Literal["finished", "timeout", "memory", "crashed"]
    reason: str
    step: str
    cpu_seconds: float
    peak_rss: int


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


def keep(
    events: Callable[[], Events],
    take: Callable[[tuple[str, Any]], None],
    limit: Limit,
    memory: int,
    until: float,
    watched: int,
) -> Ended:
    """Run `events()` in a child and give each of its events to `take`.

    `memory` is in bytes, `until` a moment of time.monotonic() at which all must be over. Abandoned is raised,
    and the child ended, as soon as the descriptor `watched` has something to be read: its other end was
    closed.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(events, write_end)
    os.close(write_end)
    step, deadline, how, reason, rest = "", until, "finished", "", b""
    ended = False
    try:
        while True:
            ready, _, _ = select.select([read_end, watched], [], [], POLL_SECONDS)
            if watched in ready:
                raise Abandoned
            if read_end in ready:
                data = os.read(read_end, _READ_SIZE)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    kind, what = event = tuple(json.loads(line))
                    if kind == "step":
                        step, deadline = what, min(until, time.monotonic() + limit(what))
                    if kind == "end":
                        ended = True
                    else:
                        take(event)  # type: ignore[arg-type]
            if time.monotonic() > deadline:
                whole = deadline == until
                how, reason = (
                    "timeout",
                    "the image's time was over" if whole else f"cut off after {limit(step):g} s",
                )
                break
            if private_bytes(pid) > memory:
                how, reason = "memory", f"ended: it took more than {memory >> 20} MiB of memory"
                break
    finally:
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError):
            if not ended:
                os.kill(pid, signal.SIGKILL)
        _pid, status, usage = os.wait4(pid, 0)
    if how == "finished" and not ended:
        how, reason = "crashed", f"the process that did it {_told(status)}"
    return Ended(how, reason, step, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)  # type: ignore[arg-type]


def private_bytes(pid: int) -> int:
    """Memory of a process that is backed by no file (proc(5), RssAnon); 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            for line in stream:
                if line.startswith(b"RssAnon:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _told(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit status {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _child(events: Callable[[], Events], write_end: int) -> NoReturn:
    """Yield into the pipe and leave; whatever happens, nothing of the keeper's own code runs on here."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # where memory runs out, this process is the one to end
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as stream:
            stream.write(_FIRST_VICTIM)
        for event in events():
            _write(write_end, event)
        _write(write_end, ("end", None))
        status = 0
    except BaseException as error:  # noqa: BLE001  told to the keeper
        with contextlib.suppress(OSError):
            _write(write_end, ("error", f"{error} ({type(error).__name__}, a bug)"))
            _write(write_end, ("end", None))
    finally:
        os._exit(status)


def _write(write_end: int, event: tuple[str, Any]) -> None:
    data = json.dumps(event).encode() + b"\n"
    while data:
        data = data[os.write(write_end, data) :]
