"""What one answer may take of this machine, whatever an image makes of the question.

A hostile image can make every call of a tool take its whole budget, one after the other, or lead lists to one
another without end. So there is a limit of processor time and of memory for all of them together. It has two
steps: at `REFUSING` of it no more calls into the kernel are made, so that a tool ends with what it has, and
says of the rest why it is missing; at the limit itself LimitReached ends whatever is under way.

What counts is the processor time of this process and of its forked workers, and the memory that they have
taken since the beginning. Not counted is what is mapped from files: the image, and the trusted kernel.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator

from hybridbridge_vol.errors import LimitReached
from hybridbridge_vol.units import PAGE_SIZE

ANSWER_SECONDS = 60.0
"""Processor time of one answer. The longest honest ones of tools that do not read files take some seconds, on
a guest of 700 processes."""
ANSWER_MEMORY = 1 << 30
"""Bytes of one answer: honest ones take tens of megabytes."""
LONG_ANSWER_SECONDS = 3600.0
LONG_ANSWER_MEMORY = 8 << 30
"""Of answers that grow with the image: each page, or each file, is looked at."""
SLOWER_UNDER_TAINT = 6
"""How much more time an answer may take where every call is run under taint (SLOW-BRIDGE)."""
REFUSING = 5 / 6
"""The part of a limit after which no more calls are made: the rest is for ending with what there is."""
_MEMORY_EVERY = 0.1
"""Seconds of processor time between two looks at the memory, which cost 10 us each."""
_STATM = "/proc/self/statm"


class _Grant:
    """`since`: when it began, in seconds of this process's processor time; `children`: those of the workers
    that had ended then; `memory_since`: the bytes that were taken then. `reserved_*`: what the workers that
    are under way may take."""

    def __init__(
        self,
        seconds: float,
        memory: int,
        since: float,
        children: float,
        memory_since: int,
        is_worker: bool = False,
    ) -> None:
        self.seconds = seconds
        self.memory = memory
        self.since = since
        self.children = children
        self.memory_since = memory_since
        self.is_worker = is_worker
        self.reserved_seconds = 0.0
        self.reserved_memory = 0


class Allowance:
    """The limits of the answer that is being made; without `begin` there are none.

    `seconds` and `memory`, where they are set, stand in the place of what the answer is given, of which it
    gets `slower` times the seconds; in no case more than `most_seconds` and `most_memory`.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.memory: int | None = None
        self.most_seconds = float("inf")
        self.most_memory = 1 << 62
        self.slower = 1
        self._grant: _Grant | None = None
        self._memory_seen = 0.0
        self._too_much = 0
        """Bytes beyond which no more calls are made, when memory was last looked at; 0: it was less."""
        self.reached = ""
        """Which limit was reached since `begin`; empty: none."""
        self.lacking = ""
        """What the rows as a whole may lack, since `begin`; empty: nothing that is known."""

    def begin(self, seconds: float, memory: int) -> object:
        """An answer begins, which may take so many seconds of processor time and bytes of memory; the one
        before, if it was not ended, ends. What `end` takes."""
        self._grant = _Grant(
            min(self.seconds or seconds * self.slower, self.most_seconds),
            min(self.memory or memory, self.most_memory),
            time.process_time(),
            _children_seconds(),
            taken_memory(),
        )
        self._memory_seen, self._too_much, self.reached, self.lacking = 0.0, 0, "", ""
        return self._grant

    def end(self, begun: object) -> None:
        """The answer that began with `begun` ends."""
        if self._grant is begun:
            self._grant = None

    def refusal(self) -> str:
        """Why no more calls are made; empty: they are. LimitReached."""
        grant = self._grant
        if grant is None:
            return ""
        used = self._used_seconds(grant)
        if used > grant.seconds * REFUSING:
            self._reach(grant, f"processor time: {grant.seconds:g} s", used > grant.seconds)
        elif self._memory_is_short(grant, used):
            taken = taken_memory() - grant.memory_since + grant.reserved_memory
            self._reach(grant, f"memory: {grant.memory >> 20} MiB", taken > grant.memory)
        return self.reached

    def check(self) -> None:
        """LimitReached if a limit is exceeded. For loops that make no calls."""
        self.refusal()

    def seconds_left(self, most: float) -> float:
        """How long one call may take, `most` at most."""
        grant = self._grant
        if grant is None:
            return most
        return max(min(most, grant.seconds * REFUSING - self._used_seconds(grant)), 0.0)

    @contextlib.contextmanager
    def shared(self, helpers: int) -> Iterator[None]:
        """While so many forked workers help: each may take an equal part of what is left, and so may this
        process."""
        grant = self._grant
        if grant is None:
            yield
            return
        part = helpers / (helpers + 1)
        grant.reserved_seconds = max(0.0, grant.seconds - self._used_seconds(grant)) * part
        taken = taken_memory() - grant.memory_since
        grant.reserved_memory = int(max(0, grant.memory - taken) * part)
        try:
            yield
        finally:
            grant.reserved_seconds, grant.reserved_memory = 0.0, 0

    def begin_worker(self, helpers: int) -> None:
        """In a worker that was forked in `shared(helpers)`: it ends at its own limit. What it leaves undone
        the other process does, or says why not."""
        if self._grant is not None:
            seconds, memory = self._grant.reserved_seconds, self._grant.reserved_memory
            now, taken = time.process_time(), taken_memory()
            self._grant = _Grant(seconds / helpers, memory // helpers, now, 0.0, taken, is_worker=True)

    def _used_seconds(self, grant: _Grant) -> float:
        used = time.process_time() - grant.since + grant.reserved_seconds
        return used if grant.is_worker else used + _children_seconds() - grant.children

    def _memory_is_short(self, grant: _Grant, used: float) -> bool:
        if abs(used - self._memory_seen) >= _MEMORY_EVERY:
            self._memory_seen = used
            taken = taken_memory() - grant.memory_since + grant.reserved_memory
            self._too_much = taken if taken > grant.memory * REFUSING else 0
        return bool(self._too_much)

    def _reach(self, grant: _Grant, what: str, exceeded: bool) -> None:
        self.reached = f"the limit of the tool was reached ({what})"
        if exceeded or grant.is_worker:
            raise LimitReached(self.reached)


def taken_memory() -> int:
    """Bytes of memory that this process has in use and that are not of a file."""
    with open(_STATM, "rb", buffering=0) as stream:
        _size, resident, of_files = stream.read(128).split()[:3]
    return (int(resident) - int(of_files)) * PAGE_SIZE


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
