"""Questions shared out among processors: to forked workers, each with the machine as it stands.

A worker (fork(2)) has all that the session has, copy-on-write: the emulator with its translated code, the
trusted kernel, the snapshot. It takes parts of the work as long as there are any, and leaves their answers in
a file. What a worker did not answer, whatever the reason, this process answers itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from hybridbridge_vol.child_process import die_with, fork

P = TypeVar("P")
T = TypeVar("T")

_TICKET = struct.Struct("<I")
MOST_PARTS = 8192
"""A pipe takes twice as many tickets at once (64 KiB; pipe(7))."""
_RECEIPT = struct.Struct("<iQQ")
"""Number of the part, offset and size of its answer in the worker's file."""
_REPORT = -1
"""Instead of the number of a part: the worker has ended, and this is its report."""


class Duties(NamedTuple):
    """What a worker does beside answering: `begin` is called in the worker before its first part, `end` after
    its last; `collect` is called in this process with what `end` returned."""

    begin: Callable[[], None]
    end: Callable[[], object]
    collect: Callable[[Any], None]
    """`Any`: pickle's; it takes what `end` returned."""


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def can_fork() -> bool:
    """Whether this process may be forked: another thread would be missing in the worker, with its locks held
    for ever."""
    return hasattr(os, "fork") and threading.active_count() == 1


def in_order(parts: Sequence[P], answer: Callable[[P], T], workers: int, duties: Duties) -> Iterator[T]:
    """The answers of the parts, in their order. The first part is always answered in this process. At most
    `MOST_PARTS` parts."""
    tickets = _Tickets(len(parts))
    mine = tickets.take()
    helpers: list[_Worker[P, T]] = []
    done: dict[int, T] = {}
    try:
        # no more processes, descriptors or room: those that there are do all of it
        with contextlib.suppress(OSError):
            for _ in range(workers):
                helpers.append(_Worker(tickets, parts, answer, duties))
        for wanted, part in enumerate(parts):
            while wanted not in done:
                if _receive(helpers, done, duties, waits=False):
                    continue
                if mine is not None:
                    done[mine] = answer(parts[mine])
                    mine = tickets.take()
                elif not _receive(helpers, done, duties):
                    done[wanted] = answer(part)
            yield done.pop(wanted)
        while _receive(helpers, done, duties):
            pass
    finally:
        for helper in helpers:
            helper.close()
        tickets.close()


def _receive(helpers: list[_Worker[P, T]], done: dict[int, T], duties: Duties, waits: bool = True) -> bool:
    """Take what workers have left, or wait for something from any of them; False if all have ended, and if
    nothing is there and it is not waited for."""
    living = {helper.receipts: helper for helper in helpers if helper.receipts >= 0}
    if not living:
        return False
    ready, _, _ = select.select(list(living), [], [], None if waits else 0)
    for descriptor in ready:
        receipt = living[descriptor].receive()
        if receipt is None:
            continue
        number, content = receipt
        if number == _REPORT:
            duties.collect(content)
        else:
            done[number] = content
    return bool(ready)


class _Tickets:
    """The numbers of the parts that nobody has taken yet: a pipe, which every worker reads from."""

    def __init__(self, count: int) -> None:
        self._reading, writing = os.pipe()
        os.write(writing, b"".join(map(_TICKET.pack, range(count))))
        os.close(writing)

    def take(self) -> int | None:
        ticket = os.read(self._reading, _TICKET.size)
        return int(_TICKET.unpack(ticket)[0]) if ticket else None

    def close(self) -> None:
        os.close(self._reading)


class _Worker(Generic[P, T]):
    """One worker. `receipts` is the descriptor on which it reports what is done, -1 when it has ended."""

    def __init__(
        self, tickets: _Tickets, parts: Sequence[P], answer: Callable[[P], T], duties: Duties
    ) -> None:
        with contextlib.ExitStack() as undoing:
            self._answers = undoing.enter_context(tempfile.TemporaryFile())
            self.receipts, writing = os.pipe()
            undoing.callback(os.close, self.receipts)
            undoing.callback(os.close, writing)
            parent = os.getpid()
            self._pid = fork()
            undoing.pop_all()
        if self._pid:
            os.close(writing)
            return
        try:  # only this: whatever else the program does on its way out is the parent's to do
            die_with(parent)
            duties.begin()
            while (number := tickets.take()) is not None:
                self._leave(writing, number, answer(parts[number]))
            self._leave(writing, _REPORT, duties.end())
        except BaseException:  # noqa: BLE001  the parent answers it again, and meets the same error if it is one
            os._exit(1)
        os._exit(0)

    def _leave(self, writing: int, number: int, content: object) -> None:
        import pickle  # 1.4 ms, and most runs fork no worker

        data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
        start = self._answers.tell()
        self._answers.write(data)
        self._answers.flush()
        os.write(writing, _RECEIPT.pack(number, start, len(data)))

    def receive(self) -> tuple[int, Any] | None:
        """The number of the part done next, and its answer; None when the worker has ended."""
        receipt = os.read(self.receipts, _RECEIPT.size)
        if len(receipt) < _RECEIPT.size:
            self._let_go()
            return None
        number, start, size = _RECEIPT.unpack(receipt)
        import pickle

        return number, pickle.loads(os.pread(self._answers.fileno(), size, start))

    def _let_go(self) -> None:
        os.close(self.receipts)
        self.receipts = -1

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.receipts >= 0:
            self._let_go()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._answers.close()
