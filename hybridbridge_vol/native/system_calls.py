"""System calls that ask about the whole machine, and the program's clocks and sleeps."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable
from functools import partial

from hybridbridge_vol.guest.abi import SYSINFO_SIZE, UNAME_SIZE
from hybridbridge_vol.guest.proxy_calls import BUFFER_SIZE
from hybridbridge_vol.native.abi import CLOCK_BOOTTIME, CLOCK_REALTIME, RUNNING_CLOCKS, failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.notifications import Answer, Call, Special
from hybridbridge_vol.native.processes import Processes

_TIMESPEC = struct.Struct("<qq")
_LOG_READ, _LOG_READ_ALL, _LOG_READ_CLEAR, _LOG_UNREAD, _LOG_SIZE = 2, 3, 4, 9, 10
"""SYSLOG_ACTION_*, include/linux/syslog.h."""
_TICKS_PER_SECOND = 100  # USER_HZ
_SECOND = 1_000_000_000
"""In nanoseconds."""


class SystemCalls:
    """`handlers`: by the name of the system call. `slept` is called when a sleep was left out."""

    def __init__(self, answers: Answers, processes: Processes, slept: Callable[[], None]) -> None:
        self._answers = answers
        self._proxy = answers.session.proxy
        self._processes = processes
        self._slept = slept
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "uname": lambda call: self._put(call, 0, self._structure("newuname", UNAME_SIZE, "home")),
            "sysinfo": lambda call: self._put(call, 0, self._structure("sysinfo", SYSINFO_SIZE, "twin")),
            "syslog": self._syslog,
            "clock_gettime": self._clock_gettime,
            "gettimeofday": self._gettimeofday,
            "time": self._time,
            "times": self._times,
            "nanosleep": self._sleep,
            "clock_nanosleep": self._sleep,
            "arch_prctl": self._arch_prctl,
            "getresuid": self._three_zeros,
            "getresgid": self._three_zeros,
        }

    def _structure(self, name: str, size: int, side: str) -> bytes:
        """What a call without other arguments writes."""

        def ask() -> bytes:
            self._proxy.checked(name, name, self._proxy.buffer(), side=side)
            return self._proxy.answer(name, size)

        return self._answers.once((name,), ask)

    def _put(self, call: Call, argument: int, data: bytes) -> Answer:
        call.memory.write(call.arguments[argument], data)
        return 0

    def _syslog(self, call: Call) -> Answer:
        action, buffer, size = call.arguments[0] & 0xFFFF_FFFF, call.arguments[1], call.arguments[2]
        if action not in (_LOG_READ, _LOG_READ_ALL, _LOG_READ_CLEAR, _LOG_UNREAD, _LOG_SIZE):
            raise failed(errno.EPERM)
        if action in (_LOG_UNREAD, _LOG_SIZE):
            ask = partial(self._proxy.checked, "syslog", "syslog", action, 0, 0, side="twin")
            return self._answers.once(("syslog", action, 0), ask)
        size = min(size & 0xFFFF_FFFF, BUFFER_SIZE)
        read = partial(self._answers.session.system.syslog, _LOG_READ_ALL, size)
        data = self._answers.once(("syslog", _LOG_READ_ALL, size), read)
        call.memory.write(buffer, data)
        return len(data)

    # --- clocks -------------------------------------------------------------------------------------------

    def _clock(self, number: int) -> bytes:
        def ask() -> bytes:
            name = "clock_gettime"
            self._proxy.checked(name, name, number, self._proxy.buffer(), side="twin")
            return self._proxy.answer(name, _TIMESPEC.size)

        return self._answers.once(("clock", number), ask)

    def _clock_gettime(self, call: Call) -> Answer:
        number = call.arguments[0] & 0xFFFF_FFFF
        if number not in RUNNING_CLOCKS:
            return self._put(call, 1, self._clock(number))
        process = self._processes.of(call.tid)
        if process.has_threads:  # they wait for each other until moments of this clock, by the host's kernel
            return Special.CONTINUE
        now = time.monotonic_ns()
        if process.clock_base < 0:
            process.clock_base = now
        seconds, nanoseconds = _TIMESPEC.unpack(self._clock(number))
        passed = seconds * _SECOND + nanoseconds + now - process.clock_base
        return self._put(call, 1, _TIMESPEC.pack(*divmod(passed, _SECOND)))

    def _gettimeofday(self, call: Call) -> Answer:
        seconds, nanoseconds = _TIMESPEC.unpack(self._clock(CLOCK_REALTIME))
        if call.arguments[0]:
            self._put(call, 0, _TIMESPEC.pack(seconds, nanoseconds // 1000))
        if call.arguments[1]:
            self._put(call, 1, bytes(8))
        return 0

    def _time(self, call: Call) -> Answer:
        data = self._clock(CLOCK_REALTIME)
        if call.arguments[0]:
            self._put(call, 0, data[:8])
        return int(_TIMESPEC.unpack(data)[0])

    def _times(self, call: Call) -> Answer:
        """What the program has used is nothing; the answer is ticks since some moment."""
        seconds, nanoseconds = _TIMESPEC.unpack(self._clock(CLOCK_BOOTTIME))
        if call.arguments[0]:
            self._put(call, 0, bytes(32))
        return int(seconds * _TICKS_PER_SECOND + nanoseconds // (_SECOND // _TICKS_PER_SECOND))

    def _sleep(self, call: Call) -> Answer:
        """Time stands still: nobody need wait for it. But a thread that another one waits for would spin."""
        if call.tid != self._processes.of(call.tid).pid:
            return Special.CONTINUE
        self._slept()
        return 0

    def _arch_prctl(self, call: Call) -> Answer:
        """ARCH_SET_FS: each C library makes it once, when a program has begun."""
        try:
            self._processes.stop_clocks(call.tid)
        except OSError as error:
            self._answers.note("vDSO", f"its clocks are the host's: {error}")
        return Special.CONTINUE

    def _three_zeros(self, call: Call) -> Answer:
        for pointer in call.arguments[:3]:
            call.memory.write(pointer, bytes(4))
        return 0
