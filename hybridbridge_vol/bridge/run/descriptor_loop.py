"""What descriptors lead to, of many processes in one run of the emulator.

The files of /proc/PID/fd and fdinfo cost 28,000 instructions for each descriptor, nearly all of them to find,
make and free again files of /proc. A loop of ours asks the same functions of the kernel that these files are
made of: `find_task_by_vpid`, `fget_task` (or another that takes a file from a task), `file_path`, and
newfstat(2) on a descriptor of the proxy task's, whose place in the table of open files is meanwhile given to
the file. As any program it runs on FAST-BRIDGE alone, and is rolled back as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.bridge.run.program import DATA_OFFSET, DATA_SIZE, PROGRAM_VADDR, ProgramMemory

STAT_SIZE = 144
"""Bytes of `struct stat`."""
_RECORD_SIZE = 1024
_RECORD = struct.Struct(f"<QQQqQQqq{STAT_SIZE}s")
"""A record: id of the process, descriptor; then the answers: the `struct file`, its position, flags and the
pointer to its inode's locks, where in the record the path begins, what newfstat answered, `struct stat`. The
path's room is the rest."""
_PATH_OFFSET = _RECORD.size
_PATH_ROOM = _RECORD_SIZE - _PATH_OFFSET
_FILE_OFFSET = 16
_NO_ANSWERS = bytes(_PATH_OFFSET - _FILE_OFFSET)

_PARAMETERS_SIZE = 512
_PARAMETERS = struct.Struct("<10Q")
_PT_REGS_OFFSET, _DI_OFFSET = 128, 112
"""Behind the parameters: newfstat's `struct pt_regs` (arch/x86/include/asm/ptrace.h)."""
_RECORDS_OFFSET = DATA_OFFSET + _PARAMETERS_SIZE
MOST_DESCRIPTORS = 512
assert _PARAMETERS_SIZE + MOST_DESCRIPTORS * _RECORD_SIZE <= DATA_SIZE

CALLS = ("file_path", "newfstat")
"""What is called for each descriptor, after its file was taken; `find_task_by_vpid` once for each process."""

TASK_OF_RECORD = bytes.fromhex(
    "53554154415541564157"  # push rbx, rbp, r12, r13, r14, r15
    "4883ec08"  # sub rsp, 8          calls want a stack aligned to 16 bytes
    "4889fb"  # mov rbx, rdi          the first record
    "4889f5"  # mov rbp, rsi          how many there are
    "4c8da700feffff"  # lea r12, [rdi-0x200]   the parameters
    "4531f6"  # xor r14d, r14d        the process
    "4531ff"  # xor r15d, r15d        its task
    # next record
    "488b3b"  # mov rdi, [rbx]
    "4c39f7"  # cmp rdi, r14
    "740a"  # je +10
    "4989fe"  # mov r14, rdi
    "41ff1424"  # call [r12]          find_task_by_vpid(process)
    "4989c7"  # mov r15, rax
    "4d85ff"  # test r15, r15
)
"""How the loops over descriptors begin, up to where a record is left if its process has no task: rbx is the
record, rbp how many there are, r12 the parameters, r15 the task."""

_CODE = TASK_OF_RECORD + bytes.fromhex(
    "0f8484000000"  # jz +132         to the end of the record
    "4c89ff"  # mov rdi, r15
    "488b7308"  # mov rsi, [rbx+8]
    "41ff542408"  # call [r12+8]      take(task, descriptor)
    "48894310"  # mov [rbx+16], rax
    "4885c0"  # test rax, rax
    "746f"  # jz +111                 to the end of the record
    "4989c5"  # mov r13, rax
    "498b4c2430"  # mov rcx, [r12+48]
    "498b540d00"  # mov rdx, [r13+rcx]      f_pos
    "48895318"  # mov [rbx+24], rdx
    "498b4c2438"  # mov rcx, [r12+56]
    "418b540d00"  # mov edx, [r13+rcx]      f_flags
    "48895320"  # mov [rbx+32], rdx
    "498b4c2440"  # mov rcx, [r12+64]
    "498b540d00"  # mov rdx, [r13+rcx]      f_inode
    "498b4c2448"  # mov rcx, [r12+72]
    "488b140a"  # mov rdx, [rdx+rcx]        i_flctx
    "48895328"  # mov [rbx+40], rdx
    "4c89ef"  # mov rdi, r13
    "488db3d0000000"  # lea rsi, [rbx+208]
    "ba30030000"  # mov edx, 816
    "41ff542410"  # call [r12+16]     file_path(file, room, size)
    "48894330"  # mov [rbx+48], rax
    "498b4c2420"  # mov rcx, [r12+32]
    "4c8929"  # mov [rcx], r13        the proxy task's descriptor is now this file
    "498dbc2480000000"  # lea rdi, [r12+128]
    "488d5340"  # lea rdx, [rbx+64]
    "48895768"  # mov [rdi+104], rdx
    "41ff542418"  # call [r12+24]     newfstat(descriptor, stat)
    "48894338"  # mov [rbx+56], rax
    # the end of the record
    "4881c300040000"  # add rbx, 1024
    "48ffcd"  # dec rbp
    "0f8551ffffff"  # jnz -175        to the next record
    "498b4c2420"  # mov rcx, [r12+32]
    "498b542428"  # mov rdx, [r12+40]
    "488911"  # mov [rcx], rdx        the descriptor is again the proxy task's own file
    "4883c408"  # add rsp, 8
    "415f415e415d415c5d5b"  # pop r15, r14, r13, r12, rbp, rbx
    "c3"  # ret
)
assert (_PATH_OFFSET, _PATH_ROOM) == (208, 816)


class FileFields(NamedTuple):
    """Byte offsets of `f_pos`, `f_flags` and `f_inode` in a `struct file`, and of `i_flctx` in a `struct
    inode`."""

    position: int
    flags: int
    inode: int
    locks: int


class Functions(NamedTuple):
    """Virtual addresses of what the loop calls."""

    find_task: int
    take: int
    """`fget_task`, or another function that is given a task and gives a `struct file`."""
    file_path: int
    newfstat: int


class OwnDescriptor(NamedTuple):
    """A descriptor of the proxy task's: its number, where the table of open files has its pointer, and the
    `struct file` that this points to."""

    number: int
    slot_vaddr: int
    file_vaddr: int


class Followed(NamedTuple):
    """A `struct file` that a descriptor leads to. `locks` is its inode's `i_flctx`, `stat` a `struct stat`;
    `path` and `stat` are None where the kernel gave an error."""

    file_vaddr: int
    position: int
    flags: int
    locks: int
    path: bytes | None
    stat: bytes | None


def follow(
    memory: ProgramMemory,
    functions: Functions,
    fields: FileFields,
    own: OwnDescriptor,
    wanted: Sequence[tuple[int, int]],
) -> list[Followed | None] | None:
    """What each `(process, descriptor)` of `wanted`, `MOST_DESCRIPTORS` at most, leads to: None if there is
    no such descriptor. None instead of the list if the program was rolled back."""
    head = bytearray(_PARAMETERS_SIZE)
    _PARAMETERS.pack_into(head, 0, *functions, own.slot_vaddr, own.file_vaddr, *fields)
    struct.pack_into("<Q", head, _PT_REGS_OFFSET + _DI_OFFSET, own.number)
    memory.put(DATA_OFFSET, bytes(head))
    for number, (pid, fd) in enumerate(wanted):
        memory.put(_RECORDS_OFFSET + number * _RECORD_SIZE, struct.pack("<QQ", pid, fd) + _NO_ANSWERS)
    if not memory.run_code(_CODE, _RECORDS_OFFSET, len(wanted), CALLS):
        return None
    return list(_records(memory.get(_RECORDS_OFFSET, len(wanted) * _RECORD_SIZE)))


def reached(memory: ProgramMemory, count: int) -> int:
    """After a roll-back: the number of the last of the `count` records of `follow` that has an answer, or 0.
    The code that was not proven was needed for it, or for the next. (A program's own memory is not rolled
    back.)"""
    data = memory.get(_RECORDS_OFFSET, count * _RECORD_SIZE)
    files = (
        data[start + _FILE_OFFSET : start + _FILE_OFFSET + 8] for start in range(0, len(data), _RECORD_SIZE)
    )
    return max((number for number, file in enumerate(files) if any(file)), default=0)


def _records(data: bytes) -> Iterator[Followed | None]:
    for start in range(0, len(data), _RECORD_SIZE):
        _pid, _fd, file, position, flags, locks, path, failed, stat = _RECORD.unpack_from(data, start)
        if not file:
            yield None
            continue
        end = start + _RECORD_SIZE - 1  # d_path writes from the end on; the last byte is the string's end
        first = path - (PROGRAM_VADDR + _RECORDS_OFFSET)
        is_path = start + _PATH_OFFSET <= first <= end
        yield Followed(
            file, position, flags, locks, data[first:end] if is_path else None, None if failed else stat
        )
