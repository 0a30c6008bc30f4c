"""A thread's registers as the kernel's own regsets give them: what a debugger or a core dump is given.

include/linux/regset.h and arch/x86/kernel/ptrace.c. Which sets there are depends on the thread: a 32-bit
program's are others than a 64-bit one's (`task_user_regset_view`).
"""

from __future__ import annotations

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.files import BUFFER_AT
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.toolkit.guest_kernel import Registers, RegisterSet
from hybridbridge_vol.units import U64

NT_PRSTATUS, NT_PRFPREG = 1, 2
_REGSETS, _COUNT, _MACHINE = 8, 16, 24  # struct user_regset_view, behind `name`
_GET, _ACTIVE, _N, _SIZE, _NOTE = 0, 16, 32, 36, 48  # struct user_regset, since 5.9
_STRIDES = (56, 64)  # its size; since 6.16 with the name of its note
_MAX_SETS = 32
MAX_SIZE = 64 << 10
"""Bytes of one set: what a processor of today has in its extended state takes eleven thousand."""


def read_registers(caller: Caller, task: int, in_memory: bool) -> Registers | None:
    """The registers of a task (virtual address of its `task_struct`); only the general ones unless the others
    are `in_memory`. None if the general ones cannot be had. CallRolledBack, KeyError if the kernel has no
    such function."""
    read = caller.machine.read
    try:
        view = (
            caller.call(caller.bridge.snapshot("task_user_regset_view"), task, label="task_user_regset_view")
            & U64
        )
        first = _number(read(view + _REGSETS, 8))
        count = min(_number(read(view + _COUNT, 4)), _MAX_SETS)
        machine = _number(read(view + _MACHINE, 2))
        stride = next((size for size in _STRIDES if _number(read(first + size + _NOTE, 4)) == NT_PRFPREG), 0)
    except UnmappedVirtual:
        return None
    sets = []
    for number in range(count if stride and in_memory else 1):
        try:
            found = _read_set(caller, task, first + number * stride)
        except (CallRolledBack, UnmappedVirtual):
            found = None
        if found is not None:
            sets.append(found)
    return Registers(machine, tuple(sets)) if sets and sets[0].kind == NT_PRSTATUS else None


def _read_set(caller: Caller, task: int, regset: int) -> RegisterSet | None:
    """One set; None if the thread does not use it, or if it has no form in a core."""
    read, snapshot = caller.machine.read, caller.bridge.snapshot
    kind = _number(read(regset + _NOTE, 4))
    size = _number(read(regset + _N, 4)) * _number(read(regset + _SIZE, 4))
    active = _number(read(regset + _ACTIVE, 8))
    if not kind or not 0 < size <= MAX_SIZE or not _number(read(regset + _GET, 8)):
        return None
    if active and caller.call(active, task, regset, label="regset active") <= 0:
        return None
    buffer = caller.put(bytes(size), BUFFER_AT)
    got = caller.call(snapshot("regset_get"), task, regset, size, buffer, label="regset_get")
    return RegisterSet(kind, caller.get(BUFFER_AT, got)) if 0 < got <= size else None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
