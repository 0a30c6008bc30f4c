"""What the program is: its numbers, limits, signals, clocks, and how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import struct
import time
from typing import NoReturn

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import NUMBERS, failed
from hybridbridge_vol.native.emulated.address_space import STACK_SIZE, AddressSpace
from hybridbridge_vol.native.emulated.cpu import ProgramCpu
from hybridbridge_vol.native.emulated.local import Arguments, Handler, Note, answers, fails

_SIGACTION = struct.Struct("<QQQQ")
"""struct sigaction of x86-64: handler, flags, restorer, mask."""
_DEFAULT, _IGNORE = 0, 1
_SET_GS, _SET_FS, _GET_FS, _GET_GS = 0x1001, 0x1002, 0x1003, 0x1004  # ARCH_*
_SET_NAME, _GET_NAME, _CAPABILITY = 15, 16, 23  # PR_*
_GET_DUMPABLE, _GET_TIMER_SLACK, _GET_NO_NEW_PRIVS = 3, 30, 39
_MAX_RANDOM = 1 << 20
_UNLIMITED = (1 << 64) - 1
_RESOURCES = 16  # RLIM_NLIMITS
_RUSAGE_SELF = 0
_NICE = 20
_NS = 1_000_000_000
_REALTIME = range(1, 100)
_ONE_PRIORITY = (1, 2)  # SCHED_FIFO, SCHED_RR


class OwnCalls:
    """`handlers`: by the name of the system call. `first_hidden`: how many descriptors it may have."""

    def __init__(
        self, space: AddressSpace, cpu: ProgramCpu, name: str, first_hidden: int, note: Note
    ) -> None:
        self._space = space
        self._cpu = cpu
        self._note = note
        self._name = os.fsencode(name)[:15].ljust(16, b"\0")
        self._actions: dict[int, bytes] = {}
        self._limits = {resource.RLIMIT_NOFILE: first_hidden, resource.RLIMIT_STACK: STACK_SIZE}
        pid = os.getpid()
        self.handlers: dict[str, Handler] = {
            **{call: answers(pid) for call in ("getpid", "gettid", "set_tid_address")},
            "getppid": lambda _given: os.getppid(),
            "getpgrp": lambda _given: os.getpgrp(),
            "getpgid": lambda _given: os.getpgrp(),
            "getsid": lambda _given: os.getsid(0),
            "umask": lambda given: os.umask(given[0] & 0o777),
            "getpriority": lambda _given: _NICE - os.getpriority(os.PRIO_PROCESS, 0),
            "ioprio_get": answers(0),
            "sched_getscheduler": answers(0),
            "sched_getparam": lambda given: self._put(given[1], bytes(4)),
            "sched_get_priority_max": lambda given: _REALTIME[-1] if given[0] in _ONE_PRIORITY else 0,
            "sched_get_priority_min": lambda given: _REALTIME[0] if given[0] in _ONE_PRIORITY else 0,
            "sched_setaffinity": answers(0),
            "getcpu": self._getcpu,
            "getrusage": self._getrusage,
            "getrlimit": lambda given: self._put(given[1], self._limit(given[0])),
            "setrlimit": answers(0),
            "prlimit64": lambda given: self._put(given[3], self._limit(given[1])),
            "getrandom": lambda given: self._put_counted(given[0], os.urandom(min(given[1], _MAX_RANDOM))),
            "clock_gettime": lambda given: self._put(given[1], _timespec(_cpu_time(given[0]))),
            "clock_getres": lambda given: self._put(given[1], _timespec(1)),
            "alarm": self._alarm,
            "prctl": self._prctl,
            "arch_prctl": self._arch_prctl,
            "personality": answers(0),
            "set_robust_list": answers(0),
            "rseq": fails(errno.ENOSYS),
            "membarrier": fails(errno.ENOSYS),
            "rt_sigaction": self._sigaction,
            "rt_sigprocmask": self._sigprocmask,
            "rt_sigpending": lambda given: self._put(given[0], bytes(8)),
            "sigaltstack": lambda given: self._put(given[1], struct.pack("<QiiQ", 0, 2, 0, 0)),
            "kill": lambda given: self._raise(given[1]),
            "tkill": lambda given: self._raise(given[1]),
            "tgkill": lambda given: self._raise(given[2]),
            "exit": self._exit,
            "exit_group": self._exit,
        }

    def _put(self, vaddr: int, data: bytes) -> int:
        """Write an answer, if it is asked for."""
        if vaddr:
            self._space.write(vaddr, data)
        return 0

    def _put_counted(self, vaddr: int, data: bytes) -> int:
        self._space.write(vaddr, data)
        return len(data)

    def _exit(self, given: Arguments) -> NoReturn:
        os._exit(given[0] & 0xFF)

    def _getcpu(self, given: Arguments) -> int:
        for vaddr in given[:2]:
            self._put(vaddr, bytes(4))
        return 0

    def _getrusage(self, given: Arguments) -> int:
        if signed32(given[0]) != _RUSAGE_SELF:
            return self._put(given[1], bytes(144))
        used = resource.getrusage(resource.RUSAGE_SELF)
        times = [part for moment in used[:2] for part in divmod(int(moment * 1_000_000), 1_000_000)]
        return self._put(given[1], struct.pack("<4q14q", *times, *map(int, used[2:])))

    def _limit(self, number: int) -> bytes:
        number &= 0xFFFF_FFFF
        if number >= _RESOURCES:
            raise failed(errno.EINVAL)
        known = self._limits.get(number)
        pair = resource.getrlimit(number) if known is None else (known, known)
        return struct.pack("<QQ", *(_UNLIMITED if part < 0 else part for part in pair))

    # --- prctl --------------------------------------------------------------------------------------------

    def _prctl(self, given: Arguments) -> int:
        option, argument = given[0] & 0xFFFF_FFFF, given[1]
        if option == _SET_NAME:
            self._name = self._space.read(argument, 16).partition(b"\0")[0][:15].ljust(16, b"\0")
        elif option == _GET_NAME:
            self._space.write(argument, self._name)
        elif option == _CAPABILITY:
            return int(ctypes.CDLL(None).prctl(_CAPABILITY, signed32(argument), 0, 0, 0))
        return 1 if option in (_GET_DUMPABLE, _GET_NO_NEW_PRIVS) else 50_000 * (option == _GET_TIMER_SLACK)

    def _arch_prctl(self, given: Arguments) -> int:
        option, argument = given[0] & 0xFFFF_FFFF, given[1]
        if option in (_SET_FS, _SET_GS):
            if argument >> 47:
                raise failed(errno.EPERM)
            self._cpu.write_register("FS_BASE" if option == _SET_FS else "GS_BASE", argument)
            return 0
        name = "FS_BASE" if option == _GET_FS else "GS_BASE"
        return self._put(argument, struct.pack("<Q", self._cpu.read_register(name)))

    # --- signals ------------------------------------------------------------------------------------------

    def _sigaction(self, given: Arguments) -> int:
        """The process that runs the emulator takes over what the program ignores; its handlers are kept and
        not run."""
        number = signed32(given[0])
        if not 1 <= number <= 64 or given[3] != 8:
            raise failed(errno.EINVAL)
        before = self._actions.get(number, bytes(_SIGACTION.size))
        if given[1]:
            if number in (signal.SIGKILL, signal.SIGSTOP):
                raise failed(errno.EINVAL)
            action = self._space.read_exactly(given[1], _SIGACTION.size)
            self._actions[number] = action
            ignored = _SIGACTION.unpack(action)[0] == _IGNORE
            with contextlib.suppress(OSError, ValueError):  # those of the C library
                signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        return self._put(given[2], before)

    def _sigprocmask(self, given: Arguments) -> int:
        if given[3] != 8:
            raise failed(errno.EINVAL)
        how, wanted = int(signal.SIG_BLOCK), set[int]()
        if given[1]:
            if signed32(given[0]) not in (signal.SIG_BLOCK, signal.SIG_UNBLOCK, signal.SIG_SETMASK):
                raise failed(errno.EINVAL)
            bits = int.from_bytes(self._space.read_exactly(given[1], 8), "little")
            how, wanted = (
                signed32(given[0]),
                {number for number in signal.valid_signals() if bits >> number - 1 & 1},
            )
        before = signal.pthread_sigmask(how, wanted)
        return self._put(given[2], sum(1 << number - 1 for number in before).to_bytes(8, "little"))

    def _raise(self, value: int) -> int:
        number = signed32(value)
        if not 0 <= number <= 64:
            raise failed(errno.EINVAL)
        if self._has_handler(number):
            self._note_handler(number)
            return 0
        if number:
            os.kill(os.getpid(), number)
        return 0

    def _alarm(self, given: Arguments) -> int:
        if self._has_handler(signal.SIGALRM):
            self._note_handler(signal.SIGALRM)  # which ends it when the time comes
        return signal.alarm(given[0] & 0xFFFF_FFFF)

    def _note_handler(self, number: int) -> None:
        self._note(f"signal {int(number)}", "an emulated program's handlers of signals are not run")

    def _has_handler(self, number: int) -> bool:
        action = self._actions.get(number)
        return action is not None and _SIGACTION.unpack(action)[0] not in (_DEFAULT, _IGNORE)

    def end_by(self, number: int) -> NoReturn:
        """A fault ends the program as the signal does that a kernel would send it."""
        if self._has_handler(number):
            self._note_handler(number)
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)


def _timespec(nanoseconds: int) -> bytes:
    return struct.pack("<qq", *divmod(nanoseconds, _NS))


def _cpu_time(clock: int) -> int:
    """Processor time of the program, with that of the emulator; no other clock is local."""
    if signed32(clock) not in (time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID):
        raise failed(errno.EINVAL)
    return time.process_time_ns()


STARTING = {NUMBERS[name]: name for name in ("fork", "vfork", "execve", "clone")}
"""Calls that start another program or thread."""
