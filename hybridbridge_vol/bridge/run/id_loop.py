"""The ids of many tasks in one run of the emulator.

`__task_pid_nr_ns` (kernel/pid.c) takes less time than entering the emulator for it. Loops of ours call it for
one task after the other, or for one process id after the other that `find_task_by_vpid` finds a task of. As
any program they run on FAST-BRIDGE alone, and are rolled back as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hybridbridge_vol.bridge.run.program import DATA_OFFSET, DATA_SIZE, ProgramMemory, loop_over

FIND, ID = "find_task_by_vpid", "__task_pid_nr_ns"
_RECORD = struct.Struct("<5Qq")
"""A record: both functions, a process id (0: the task is given), the kind of id that is asked for (enum
pid_type); then the task, 0 if there is none, and the answer."""
MOST_IDS = 4096
assert MOST_IDS * _RECORD.size <= DATA_SIZE

_CODE = loop_over(
    _RECORD.size,
    bytes.fromhex(
        "488b7b10"  # mov rdi, [rbx+16]
        "4885ff"  # test rdi, rdi
        "7406"  # jz +6
        "ff13"  # call [rbx]
        "48894320"  # mov [rbx+32], rax
        "488b7b20"  # mov rdi, [rbx+32]
        "4885ff"  # test rdi, rdi
        "740d"  # jz +13
        "488b7318"  # mov rsi, [rbx+24]
        "31d2"  # xor edx, edx        the namespace of who asks
        "ff5308"  # call [rbx+8]
        "48894328"  # mov [rbx+40], rax
    ),
)


def ids_of_tasks(memory: ProgramMemory, id_of: int, kind: int, tasks: Sequence[int]) -> list[int] | None:
    """The ids of this kind of the tasks at these virtual addresses, `MOST_IDS` at most; `id_of` is where `ID`
    is. None if the program was rolled back."""
    answers = _run(memory, [(0, id_of, 0, kind, task, 0) for task in tasks], (ID,))
    return None if answers is None else [answer for _task, answer in answers]


def ids_of_processes(
    memory: ProgramMemory, find: int, id_of: int, kind: int, pids: Sequence[int]
) -> list[int | None] | None:
    """The same of the tasks that have these process ids; None for an id that no task has."""
    answers = _run(memory, [(find, id_of, pid, kind, 0, 0) for pid in pids], (FIND, ID))
    return None if answers is None else [answer if task else None for task, answer in answers]


def _run(
    memory: ProgramMemory, records: Sequence[tuple[int, ...]], names: tuple[str, ...]
) -> list[tuple[int, int]] | None:
    """The task and the answer of each record."""
    if not records:
        return []
    memory.put(DATA_OFFSET, b"".join(_RECORD.pack(*record) for record in records))
    if not memory.run_code(_CODE, DATA_OFFSET, len(records), names):
        return None
    data = memory.get(DATA_OFFSET, len(records) * _RECORD.size)
    return [(record[4], record[5]) for record in _RECORD.iter_unpack(data)]
