"""Waiting: for descriptors, and for what never comes in a program of one thread without children."""

from __future__ import annotations

import errno
import select
import signal
import struct
import time

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.emulated.address_space import AddressSpace
from hybridbridge_vol.native.emulated.local import Arguments, Descriptors, Handler, answers, fails, seconds_at

_POLLFD = struct.Struct("<ihh")
_MAX_DESCRIPTORS = 4096
_MICROSECONDS = 1_000_000
_SETS = (
    (select.POLLIN, select.POLLIN | select.POLLHUP | select.POLLERR),
    (select.POLLOUT, select.POLLOUT | select.POLLERR),
    (select.POLLPRI, select.POLLPRI),
)
"""Of select(2), in the order of its arguments: what is asked, what counts (fs/select.c)."""
_WAIT, _WAKE, _WAIT_BITSET, _WAKE_BITSET, _COMMAND = 0, 1, 9, 10, 0x7F  # include/uapi/linux/futex.h


class WaitingCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, space: AddressSpace, descriptors: Descriptors) -> None:
        self._space = space
        self._descriptors = descriptors
        self.handlers: dict[str, Handler] = {
            "poll": lambda given: self._poll(given, _milliseconds(given[2])),
            "ppoll": lambda given: self._poll(given, seconds_at(self._space, given[2])),
            "select": lambda given: self._select(given, seconds_at(self._space, given[4], _MICROSECONDS)),
            "pselect6": lambda given: self._select(given, seconds_at(self._space, given[4])),
            "futex": self._futex,
            "pause": self._pause,
            "rt_sigsuspend": self._pause,
            "sched_yield": answers(0),
            "wait4": fails(errno.ECHILD),
            "waitid": fails(errno.ECHILD),
        }

    def _wait(self, wanted: dict[int, int], seconds: float | None) -> dict[int, int]:
        """What is ready of these descriptors."""
        waiting = select.poll()
        for number, events in wanted.items():
            if number < self._descriptors.first_hidden:
                waiting.register(number, events)
        hidden = {number: select.POLLNVAL for number in wanted if number >= self._descriptors.first_hidden}
        left = 0.0 if hidden else seconds
        return dict(waiting.poll(None if left is None else left * 1000)) | hidden

    def _poll(self, given: Arguments, seconds: float | None) -> int:
        count = given[1]
        if count > _MAX_DESCRIPTORS:
            raise failed(errno.EINVAL)
        entries = list(_POLLFD.iter_unpack(self._space.read_exactly(given[0], _POLLFD.size * count)))
        wanted: dict[int, int] = {}
        for number, events, _ready in entries:
            if number >= 0:
                wanted[number] = wanted.get(number, 0) | events & 0xFFFF
        ready = self._wait(wanted, seconds)
        always = select.POLLERR | select.POLLHUP | select.POLLNVAL
        found = [ready.get(number, 0) & (events & 0xFFFF | always) for number, events, _ in entries]
        data = b"".join(
            _POLLFD.pack(number, events, seen)
            for (number, events, _), seen in zip(entries, found, strict=True)
        )
        self._space.write(given[0], data)
        return sum(map(bool, found))

    def _select(self, given: Arguments, seconds: float | None) -> int:
        count = signed32(given[0])
        if not 0 <= count <= _MAX_DESCRIPTORS:
            raise failed(errno.EINVAL)
        size = (count + 63) // 64 * 8
        asked: list[set[int]] = []
        for vaddr in given[1:4]:
            bits = int.from_bytes(self._space.read_exactly(vaddr, size), "little") if vaddr else 0
            asked.append({number for number in range(count) if bits >> number & 1})
        wanted: dict[int, int] = {}
        for numbers, (events, _counts) in zip(asked, _SETS, strict=True):
            for number in numbers:
                wanted[number] = wanted.get(number, 0) | events
        ready = self._wait(wanted, seconds)
        if any(seen & select.POLLNVAL for seen in ready.values()):
            raise failed(errno.EBADF)
        total = 0
        for vaddr, numbers, (_events, counts) in zip(given[1:4], asked, _SETS, strict=True):
            found = [number for number in numbers if ready.get(number, 0) & counts]
            total += len(found)
            if vaddr:
                self._space.write(vaddr, sum(1 << number for number in found).to_bytes(size, "little"))
        return total

    def _futex(self, given: Arguments) -> int:
        """Nobody else can wake it, or waits."""
        command = given[1] & _COMMAND
        if command in (_WAKE, _WAKE_BITSET):
            return 0
        if command not in (_WAIT, _WAIT_BITSET):
            raise failed(errno.ENOSYS)
        value = int.from_bytes(self._space.read_exactly(given[0], 4), "little")
        if value != given[2] & 0xFFFF_FFFF:
            raise failed(errno.EAGAIN)
        seconds = seconds_at(self._space, given[3])
        if seconds is None:
            raise failed(errno.EDEADLK)
        if command == _WAIT:
            time.sleep(seconds)
        raise failed(errno.ETIMEDOUT)

    def _pause(self, _given: Arguments) -> int:
        """Until a signal ends the program: its handlers are not run."""
        signal.pause()
        raise failed(errno.EINTR)


def _milliseconds(value: int) -> float | None:
    number = signed32(value)
    return None if number < 0 else number / 1000
