"""Which descriptors processes have, of many processes in one run of the emulator.

Listing /proc/PID/fd makes a file of /proc for each descriptor. A loop of ours asks the function that finds
the next one, as fs/proc/fd.c does. It runs as the loop of descriptor_loop.py.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from hybridbridge_vol.bridge.run.program import DATA_OFFSET, PROGRAM_VADDR, ProgramMemory

NEXT_FUNCTIONS = ("fget_task_next", "task_lookup_next_fdget_rcu", "task_lookup_next_fd_rcu")
"""The function that finds the next descriptor (fs/file.c): of Linux 6.13 and later, 6.7 and later, 5.11 and
later. Before it was part of others."""
CALLS = ("find_task_by_vpid",)
MOST_PROCESSES = 512
MOST_NUMBERS = 1 << 16
"""Descriptors that one run finds; the next goes on."""

_PARAMETERS_SIZE = 512
_PARAMETERS = struct.Struct("<4Q")
_ENTRY = struct.Struct("<4Q")
"""A process: its id, the least descriptor that is wanted; then the answers: 0 if there is no such process, 2
if these are all of its descriptors, and how many."""
_ALL = 2
_ENTRIES_OFFSET = DATA_OFFSET + _PARAMETERS_SIZE
_NUMBERS_OFFSET = _ENTRIES_OFFSET + MOST_PROCESSES * _ENTRY.size

_CODE = bytes.fromhex(
    "53554154415541564157"  # push rbx, rbp, r12, r13, r14, r15
    "4883ec08"  # sub rsp, 8          calls want a stack aligned to 16 bytes
    "4989fe"  # mov r14, rdi          the first process
    "4889f5"  # mov rbp, rsi          how many there are
    "4c8da700feffff"  # lea r12, [rdi-0x200]   the parameters
    "498b5c2410"  # mov rbx, [r12+16] where the numbers go
    # next process
    "498b3e"  # mov rdi, [r14]
    "41ff1424"  # call [r12]          find_task_by_vpid(process)
    "4989c7"  # mov r15, rax
    "4885c0"  # test rax, rax
    "744e"  # jz +78                  to the end of the process
    "49c7461001000000"  # mov qword [r14+16], 1
    "418b4608"  # mov eax, [r14+8]
    "4189442420"  # mov [r12+32], eax
    "4531ed"  # xor r13d, r13d
    # next descriptor
    "493b5c2418"  # cmp rbx, [r12+24] the end of the room
    "732f"  # jae +47                 to the count
    "4c89ff"  # mov rdi, r15
    "498d742420"  # lea rsi, [r12+32]
    "41ff542408"  # call [r12+8]      the next descriptor of the task
    "4885c0"  # test rax, rax
    "7415"  # jz +21
    "418b442420"  # mov eax, [r12+32]
    "8903"  # mov [rbx], eax
    "4883c304"  # add rbx, 4
    "49ffc5"  # inc r13
    "41ff442420"  # inc dword [r12+32]
    "ebd2"  # jmp -46                 to the next descriptor
    "49c7461002000000"  # mov qword [r14+16], 2
    "4d896e18"  # mov [r14+24], r13   the count
    # the end of the process
    "4983c620"  # add r14, 32
    "48ffcd"  # dec rbp
    "759a"  # jnz -102                to the next process
    "4883c408"  # add rsp, 8
    "415f415e415d415c5d5b"  # pop r15, r14, r13, r12, rbp, rbx
    "c3"  # ret
)


class Listed(NamedTuple):
    """Descriptors of a process, ascending; `complete` if there are no more."""

    numbers: list[int]
    complete: bool


def list_descriptors(
    memory: ProgramMemory, find_task: int, next_function: int, wanted: Sequence[tuple[int, int]]
) -> list[Listed | None] | None:
    """The descriptors of each `(process, least descriptor)` of `wanted`, `MOST_PROCESSES` at most: None if
    there is no such process. None instead of the list if the program was rolled back.

    `find_task` and `next_function` are virtual addresses of `find_task_by_vpid` and one of `NEXT_FUNCTIONS`.
    """
    numbers_vaddr = PROGRAM_VADDR + _NUMBERS_OFFSET
    limits = numbers_vaddr, numbers_vaddr + 4 * MOST_NUMBERS
    memory.put(DATA_OFFSET, _PARAMETERS.pack(find_task, next_function, *limits))
    memory.put(_ENTRIES_OFFSET, b"".join(_ENTRY.pack(pid, first, 0, 0) for pid, first in wanted))
    if not memory.run_code(_CODE, _ENTRIES_OFFSET, len(wanted), CALLS):
        return None
    return _answers(memory, len(wanted))


def reached(memory: ProgramMemory, count: int) -> int:
    """After a roll-back: the number of the last of the `count` processes of `list_descriptors` that was
    found, or 0. The code that was not proven was needed for it, or for the next."""
    entries = _ENTRY.iter_unpack(memory.get(_ENTRIES_OFFSET, count * _ENTRY.size))
    return max((number for number, (_pid, _first, state, _count) in enumerate(entries) if state), default=0)


def _answers(memory: ProgramMemory, processes: int) -> list[Listed | None]:
    answers: list[Listed | None] = []
    offset = _NUMBERS_OFFSET
    for _pid, _first, state, count in _ENTRY.iter_unpack(
        memory.get(_ENTRIES_OFFSET, processes * _ENTRY.size)
    ):
        numbers = struct.unpack(f"<{count}I", memory.get(offset, 4 * count))
        offset += 4 * count
        answers.append(Listed(list(numbers), state == _ALL) if state else None)
    return answers
