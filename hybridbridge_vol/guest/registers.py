"""A thread's registers from the kernel's own regsets: what debuggers and core dumps are made from.

include/linux/regset.h and arch/x86/kernel/ptrace.c. Which sets there are depends on the thread: those of a
32-bit program differ from those of a 64-bit one (`task_user_regset_view`).
"""

from __future__ import annotations

import errno
import os

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.cpus import SnapshotCpus
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.values import Registers, RegisterSet
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

NT_PRSTATUS, NT_PRFPREG = 1, 2
_REGSETS, _COUNT, _MACHINE = 8, 16, 24  # struct user_regset_view, behind `name`
_GET, _ACTIVE, _BEHIND = 0, 16, 32  # struct user_regset: pointers; from 4.15 to 5.8 one more (`get_size`)
_N, _SIZE, _NOTE = 0, 4, 16  # the numbers behind them
_STRIDES = (56, 64)  # its size; since 6.16 with the name of its note
_MAX_SETS = 32
MAX_SIZE = 64 << 10
"""Bytes of one set: the extended state of today's processors takes eleven thousand."""


class SnapshotThreads:
    """Implements `guest.kernel.Threads`."""

    def __init__(self, proxy: ProxyCalls, cpus: SnapshotCpus) -> None:
        self._proxy = proxy
        self._cpus = cpus

    def registers(self, tid: int) -> Registers | None:
        """A thread's registers as it entered the kernel; None if they cannot be had. OSError if there is no
        such thread; CallRolledBack; KeyError if the kernel lacks a function for it."""
        task = self._proxy.function("find_task_by_vpid", tid) & U64
        if not task:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{tid}")
        return self._of_task(task, task not in self._cpus.current_vaddrs)

    def _of_task(self, task: int, all_in_memory: bool) -> Registers | None:
        """The registers of a task (virtual address of its `task_struct`); only the general ones unless
        `all_in_memory`. None if the general ones cannot be had."""
        read = self._proxy.caller.machine.read
        try:
            view = self._proxy.function("task_user_regset_view", task) & U64
            first = _number(read(view + _REGSETS, 8))
            count = min(_number(read(view + _COUNT, 4)), _MAX_SETS)
            machine = _number(read(view + _MACHINE, 2))
            numbers = numbers_at(read(first + _BEHIND, 4))
            second = first + numbers + _NOTE
            stride = next((size for size in _STRIDES if _number(read(second + size, 4)) == NT_PRFPREG), 0)
        except UnmappedVirtual:
            return None
        sets = []
        for number in range(count if stride and all_in_memory else 1):
            try:
                found = self._read_set(task, first + number * stride, numbers)
            except (CallRolledBack, UnmappedVirtual):
                found = None
            if found is not None:
                sets.append(found)
        return Registers(machine, tuple(sets)) if sets and sets[0].kind == NT_PRSTATUS else None

    def _read_set(self, task: int, regset: int, numbers: int) -> RegisterSet | None:
        """One set (virtual address of its `struct user_regset`, whose numbers are at that offset); None if
        the thread does not use it, or if it has no place in a core file."""
        read, call = self._proxy.caller.machine.read, self._proxy.caller.call
        kind = _number(read(regset + numbers + _NOTE, 4))
        size = _number(read(regset + numbers + _N, 4)) * _number(read(regset + numbers + _SIZE, 4))
        active = _number(read(regset + _ACTIVE, 8))
        get = _number(read(regset + _GET, 8))
        if not kind or not 0 < size <= MAX_SIZE or not get:
            return None
        if active and call(active, task, regset, label="regset active") <= 0:
            return None
        got = self._get(task, regset, get, size)
        return RegisterSet(kind, self._proxy.answer("regset_get", got)) if 0 < got <= size else None

    def _get(self, task: int, regset: int, get: int, size: int) -> int:
        """Have a set written to the buffer; how many bytes it has, or a negative errno. Before 5.9 there is
        no `regset_get`, and `get` (virtual address) takes the place and size of what is wanted."""
        buffer = self._proxy.buffer(bytes(size))
        if "regset_get" in self._proxy.bridge.kernel.symbols:
            return self._proxy.function("regset_get", task, regset, size, buffer)
        failed = self._proxy.caller.call(get, task, regset, 0, size, buffer, 0, label="regset get")
        return failed or size


def numbers_at(behind: bytes) -> int:
    """The offset of the numbers in a `struct user_regset`, by the four bytes behind the pointers that each
    has: how many registers there are is not 0, and x86 never had a `get_size`."""
    return _BEHIND if any(behind) else _BEHIND + 8


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
