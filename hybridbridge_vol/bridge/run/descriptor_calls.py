"""System calls on files that many processes have open, in one run of the emulator.

As the loop of descriptor_loop.py, this one takes a file from a process, gives it the place of a descriptor of
the proxy task's, and makes a system call on that: whichever each record asks for. What the calls change is
there until memory goes back to the mark.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybridbridge_vol.bridge.run.descriptor_loop import TASK_OF_RECORD, OwnDescriptor
from hybridbridge_vol.bridge.run.program import DATA_OFFSET, DATA_SIZE, PROGRAM_VADDR, ProgramMemory
from hybridbridge_vol.units import U64

_PARAMETERS_SIZE = 512
_PARAMETERS = struct.Struct("<4Q")
_RECORDS_OFFSET = DATA_OFFSET + _PARAMETERS_SIZE
_RECORD = struct.Struct("<4Qq56x3Q16x3Q48x")
"""A record: process, descriptor, the system call's function; then the file (0: there is none) and the answer;
a struct pt_regs (arch/x86/include/asm/ptrace.h), with the arguments in r10, r9, r8, dx, si, di. Behind it is
room for what the call reads or writes."""
_FILE_OFFSET = 24
_CALLED = struct.Struct("<Qq")
MOST_CALLS = 512
_MAX_ARGUMENTS = 6


def _code(record_size: int) -> bytes:
    return TASK_OF_RECORD + bytes.fromhex(
        "7428"  # jz +40                  to the end of the record
        "4c89ff"  # mov rdi, r15
        "488b7308"  # mov rsi, [rbx+8]
        "41ff542408"  # call [r12+8]      fget_task(task, descriptor)
        "48894318"  # mov [rbx+24], rax
        "4885c0"  # test rax, rax
        "7413"  # jz +19                  to the end of the record
        "498b4c2410"  # mov rcx, [r12+16]
        "488901"  # mov [rcx], rax        the proxy task's descriptor is now this file
        "488d7b28"  # lea rdi, [rbx+40]
        "ff5310"  # call [rbx+16]         the system call
        "48894320"  # mov [rbx+32], rax
        # the end of the record
        "4881c3" + record_size.to_bytes(4, "little").hex() +  # add rbx, the size
        "48ffcd"  # dec rbp
        "75b5"  # jnz -75                 to the next record
        "498b4c2410"  # mov rcx, [r12+16]
        "498b542418"  # mov rdx, [r12+24]
        "488911"  # mov [rcx], rdx        the descriptor is again the proxy task's own file
        "4883c408"  # add rsp, 8
        "415f415e415d415c5d5b"  # pop r15, r14, r13, r12, rbp, rbx
        "c3"  # ret
    )  # fmt: skip


class DescriptorCall(NamedTuple):
    """A system call by the twin's code, whose first argument is the descriptor. `arguments` gives the others,
    of the virtual address of room for data, which begins as zeros."""

    pid: int
    fd: int
    name: str
    arguments: Callable[[int], tuple[int, ...]]


class Called(NamedTuple):
    """The `struct file`, the answer of the call, and what is in the room."""

    file_vaddr: int
    answer: int
    room: bytes


def most_calls(room: int) -> int:
    """How many calls with so many bytes of room one program takes."""
    return min(MOST_CALLS, (DATA_SIZE - _PARAMETERS_SIZE) // _size(room))


def call_each(
    memory: ProgramMemory,
    functions: tuple[int, int],
    entries: dict[str, int],
    own: OwnDescriptor,
    calls: Sequence[DescriptorCall],
    room: int,
) -> list[Called | None] | None:
    """Make calls, `most_calls` at most: None for one whose descriptor there is not, and instead of the list
    if the program was rolled back. `functions` are the virtual addresses of `find_task_by_vpid` and
    `fget_task`, `entries` those of the system calls by name."""
    size = _size(room)
    memory.put(DATA_OFFSET, _PARAMETERS.pack(*functions, own.slot_vaddr, own.file_vaddr))
    for number, call in enumerate(calls):
        at = _RECORDS_OFFSET + number * size
        room_vaddr = PROGRAM_VADDR + at + _RECORD.size
        padded = (own.number, *call.arguments(room_vaddr), *(0,) * _MAX_ARGUMENTS)[:_MAX_ARGUMENTS]
        di, si, dx, r10, r8, r9 = (value & U64 for value in padded)
        head = _RECORD.pack(call.pid, call.fd, entries[call.name], 0, 0, r10, r9, r8, dx, si, di)
        memory.put(at, head + bytes(size - _RECORD.size))
    names = dict.fromkeys(call.name for call in calls)
    if not memory.run_code(_code(size), _RECORDS_OFFSET, len(calls), names):
        return None
    return [_called(memory, number, size, room) for number in range(len(calls))]


def _called(memory: ProgramMemory, number: int, size: int, room: int) -> Called | None:
    at = _RECORDS_OFFSET + number * size
    file, answer = _CALLED.unpack(memory.get(at + _FILE_OFFSET, _CALLED.size))
    return Called(file, answer, memory.get(at + _RECORD.size, room)) if file else None


def reached(memory: ProgramMemory, count: int, room: int) -> int:
    """After a roll-back: the number of the last of the `count` calls whose file was found, or 0. The code
    that was not proven was needed for it, or for the next."""
    size = _size(room)
    files = (any(memory.get(_RECORDS_OFFSET + number * size + _FILE_OFFSET, 8)) for number in range(count))
    return max((number for number, found in enumerate(files) if found), default=0)


def _size(room: int) -> int:
    return _RECORD.size + (room + 7) // 8 * 8
