"""System calls that name processes: the program's own are local, all other numbers are the image's."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import CLONE_THREAD, NUMBERS, failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.notifications import Answer, Call, Special
from hybridbridge_vol.native.processes import Processes

_MAX_SIZE = 1024
"""Bytes of a mask of processors, or of another answer."""
_SCHED_ATTR = 56  # struct sched_attr, include/uapi/linux/sched/types.h


class ProcessCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, answers: Answers, processes: Processes) -> None:
        self._answers = answers
        self._proxy = answers.session.proxy
        self._processes = processes
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "kill": self._kill,
            "tkill": lambda call: self._signal_thread(call, call.arguments[0]),
            "tgkill": lambda call: self._signal_thread(call, call.arguments[0]),
            "getpgid": lambda call: self._ask(call, 0, "getpgid"),
            "getsid": lambda call: self._ask(call, 0, "getsid"),
            "getpriority": lambda call: self._ask(call, 1, "getpriority", 2, local_kind=0),
            "ioprio_get": lambda call: self._ask(call, 1, "ioprio_get", 2, local_kind=1),
            "sched_getscheduler": lambda call: self._ask(call, 0, "sched_getscheduler"),
            "sched_getparam": lambda call: self._ask_structure(call, "sched_getparam", 1, 4),
            "sched_rr_get_interval": lambda call: self._ask_structure(call, "sched_rr_get_interval", 1, 16),
            "sched_getattr": self._sched_getattr,
            "sched_getaffinity": self._sched_getaffinity,
            "prlimit64": self._prlimit64,
            "capget": self._capget,
            "clone": self._clone,
            "fork": self._clone,
            "vfork": self._clone,
        }

    def _is_own(self, call: Call, pid: int) -> bool:
        """Whether a number is the program's: 0, its own, or one of its other processes that is none of the
        image's."""
        if pid in (0, self._processes.of(call.tid).pid, call.tid):
            return True
        return not self._answers.lists(pid) and self._processes.has(pid)

    def _kill(self, call: Call) -> Answer:
        pid, number = signed32(call.arguments[0]), signed32(call.arguments[1])
        if pid != -1 and self._is_own(call, abs(pid)):
            return Special.CONTINUE
        if number:
            raise failed(errno.EPERM)
        return self._once("kill", pid, 0)

    def _signal_thread(self, call: Call, number: int) -> Answer:
        if self._is_own(call, signed32(number)):
            return Special.CONTINUE
        raise failed(errno.EPERM)

    def _once(self, name: str, *arguments: int) -> int:
        return self._answers.once(
            (name, *arguments), lambda: self._proxy.checked(name, name, *arguments, side="twin")
        )

    def _ask(
        self, call: Call, pid_at: int, name: str, count: int = 1, local_kind: int | None = None
    ) -> Answer:
        """A call whose answer is its value; the number of a process is argument `pid_at`, if the first one
        is `local_kind`."""
        kind = local_kind is None or signed32(call.arguments[0]) == local_kind
        if kind and self._is_own(call, signed32(call.arguments[pid_at])):
            return Special.CONTINUE
        return self._once(name, *(signed32(value) for value in call.arguments[:count]))

    def _structure(self, name: str, size: int, *arguments: int) -> bytes:
        """What a call writes behind its last argument but those given here."""

        def ask() -> bytes:
            answer = self._proxy.checked(name, name, *arguments, self._proxy.buffer(), side="twin")
            return self._proxy.answer(name, min(answer, size) if name == "sched_getaffinity" else size)

        return self._answers.once((name, *arguments), ask)

    def _ask_structure(self, call: Call, name: str, buffer_at: int, size: int) -> Answer:
        pid = signed32(call.arguments[0])
        if self._is_own(call, pid):
            return Special.CONTINUE
        call.memory.write(call.arguments[buffer_at], self._structure(name, size, pid))
        return 0

    def _sched_getattr(self, call: Call) -> Answer:
        pid, size = signed32(call.arguments[0]), min(call.arguments[2] & 0xFFFF_FFFF, _SCHED_ATTR)
        if self._is_own(call, pid):
            return Special.CONTINUE
        name = "sched_getattr"

        def ask() -> bytes:
            self._proxy.checked(name, name, pid, self._proxy.buffer(), size, 0, side="twin")
            return self._proxy.answer(name, size)

        call.memory.write(call.arguments[1], self._answers.once((name, pid, size), ask))
        return 0

    def _sched_getaffinity(self, call: Call) -> Answer:
        """The program's own processors are those of the image's first process: tools count them by this."""
        pid, size = signed32(call.arguments[0]), min(call.arguments[1] & 0xFFFF_FFFF, _MAX_SIZE)
        data = self._structure("sched_getaffinity", size, 1 if self._is_own(call, pid) else pid, size)
        call.memory.write(call.arguments[2], data)
        return len(data)

    def _prlimit64(self, call: Call) -> Answer:
        pid, what, new, old = call.arguments[:4]
        if self._is_own(call, signed32(pid)):
            return Special.CONTINUE
        if new:
            raise failed(errno.EPERM)
        call.memory.write(old, self._structure("prlimit64", 16, signed32(pid), signed32(what), 0))
        return 0

    def _capget(self, call: Call) -> Answer:
        header = call.memory.read_exactly(call.arguments[0], 8)
        version, pid = struct.unpack("<Ii", header)
        if not call.arguments[1]:
            return 0
        if self._is_own(call, pid):  # it has none
            call.memory.write(call.arguments[1], bytes(24))
            return 0
        name = "capget"

        def ask() -> bytes:
            vaddr = self._proxy.buffer(struct.pack("<Ii", version, pid) + bytes(56))
            self._proxy.checked(name, name, vaddr, vaddr + 64, side="twin")
            return self._proxy.answer(name, 64 + 24)[64:]

        call.memory.write(call.arguments[1], self._answers.once((name, version, pid), ask))
        return 0

    def _clone(self, call: Call) -> Answer:
        if call.number == NUMBERS["clone"] and call.arguments[0] & CLONE_THREAD:
            self._processes.of(call.tid).has_threads = True
        if not self._processes.may_have_another():
            raise failed(errno.EAGAIN)
        return Special.CONTINUE
