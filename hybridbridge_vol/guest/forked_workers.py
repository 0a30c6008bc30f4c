"""Questions about many processes shared out among processors: to copies of this process, each with the
machine as it stands.

A copy (fork(2)) has all that the session has, copy-on-write: the emulator with what it has translated, the
trusted kernel, the snapshot. It takes parts of the work as long as there are any and leaves the answers in a
file. What a copy did not answer, whatever the reason, this process answers itself.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

P = TypeVar("P")
T = TypeVar("T")

_TICKET = struct.Struct("<I")
MOST_PARTS = 8192
"""What a pipe takes of tickets at once, half of it (64 KiB; pipe(7))."""
_RECEIPT = struct.Struct("<iQQ")
"""Number of the part, offset and size of its answer in the copy's file."""
_LAST_WORDS = -1
"""Instead of the number of a part."""


def processors() -> int:
    """On how many this process may run."""
    return len(os.sched_getaffinity(0))


def can_copy() -> bool:
    """Whether this process can be copied: another thread would be missing in the copy, with its locks held
    for ever."""
    return hasattr(os, "fork") and threading.active_count() == 1


def in_order(
    parts: Sequence[P], answer: Callable[[P], T], copies: int,
    begin: Callable[[], None], end: Callable[[], object], ended: Callable[[object], None],
) -> Iterator[T]:  # fmt: skip
    """The answers of the parts, in their order. `begin` is called in each copy before its first part and
    `end` after its last; `ended` gets here what it returned. The first part is always answered here. At most
    `MOST_PARTS` parts."""
    tickets = _Tickets(len(parts))
    mine = tickets.take()
    helpers: list[_Copy[P, T]] = []
    done: dict[int, T] = {}
    try:
        with contextlib.suppress(
            OSError
        ):  # no more processes, descriptors or room: those that there are do it all
            for _ in range(copies):
                helpers.append(_Copy(tickets, parts, answer, begin, end))
        for wanted, part in enumerate(parts):
            while wanted not in done:
                if mine is not None:
                    done[mine] = answer(parts[mine])
                    mine = tickets.take()
                elif not _receive(helpers, done, ended):
                    done[wanted] = answer(part)
            yield done.pop(wanted)
        while _receive(helpers, done, ended):
            pass
    finally:
        for helper in helpers:
            helper.close()
        tickets.close()


def _receive(helpers: list[_Copy[P, T]], done: dict[int, T], ended: Callable[[object], None]) -> bool:
    """Wait for something from any copy; False if all have ended."""
    living = {helper.receipts: helper for helper in helpers if helper.receipts >= 0}
    if not living:
        return False
    ready, _, _ = select.select(list(living), [], [])
    for descriptor in ready:
        receipt = living[descriptor].receive()
        if receipt is None:
            continue
        number, content = receipt
        if number == _LAST_WORDS:
            ended(content)
        else:
            done[number] = content  # type: ignore[assignment]
    return True


class _Tickets:
    """The numbers of the parts that nobody has taken yet: a pipe, which every copy reads from."""

    def __init__(self, count: int) -> None:
        self._reading, writing = os.pipe()
        os.write(writing, b"".join(map(_TICKET.pack, range(count))))
        os.close(writing)

    def take(self) -> int | None:
        ticket = os.read(self._reading, _TICKET.size)
        return int(_TICKET.unpack(ticket)[0]) if ticket else None

    def close(self) -> None:
        os.close(self._reading)


class _Copy(Generic[P, T]):
    """One copy at work. `receipts` is the descriptor where it tells what is done, -1 when it has ended."""

    def __init__(
        self,
        tickets: _Tickets,
        parts: Sequence[P],
        answer: Callable[[P], T],
        begin: Callable[[], None],
        end: Callable[[], object],
    ) -> None:
        with contextlib.ExitStack() as undoing:
            self._answers = undoing.enter_context(tempfile.TemporaryFile())
            self.receipts, writing = os.pipe()
            undoing.callback(os.close, self.receipts)
            undoing.callback(os.close, writing)
            self._pid = os.fork()
            undoing.pop_all()
        if self._pid:
            os.close(writing)
            return
        try:  # only this: what the rest of the program would do on its way out is the original's to do
            begin()
            while (number := tickets.take()) is not None:
                self._leave(writing, number, answer(parts[number]))
            self._leave(writing, _LAST_WORDS, end())
        except BaseException:  # noqa: BLE001  the original asks again, and gets the same error if it is one
            os._exit(1)
        os._exit(0)

    def _leave(self, writing: int, number: int, content: object) -> None:
        data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
        start = self._answers.tell()
        self._answers.write(data)
        self._answers.flush()
        os.write(writing, _RECEIPT.pack(number, start, len(data)))

    def receive(self) -> tuple[int, object] | None:
        """What it tells next, with the answer; None at its end."""
        receipt = os.read(self.receipts, _RECEIPT.size)
        if len(receipt) < _RECEIPT.size:
            self._let_go()
            return None
        number, start, size = _RECEIPT.unpack(receipt)
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
