"""The log of copies: what the kernel would copy to the reader of a file, named instead of copied.

Copying a file's pages out of the emulator costs far more than finding them. While the log is switched on, the
twin's functions that copy to a reader (the policy's action "log") note the address and the size of what they
were to copy, and say that they have copied it. The pages are then read from the image: the kernel's own code
has chosen them, with all its checks, and their addresses say where in the image each byte of a file lies.

Where a page is absent, the kernel would read ahead; that is noted too (action "note"): the argument names the
page cache in which it was looked for, which is another file's where file systems are stacked.

Where the next record goes (0: the log is off) and where the last one ends is a page below 2 GiB, where an
instruction can address it absolutely; the records are in the proxy task's user memory.
"""

from __future__ import annotations

import struct

from hybridbridge_vol.bridge.text.twin_text import jump

LOG_VADDR = 0x1040_0000
HEADER_ROOM = 4096
"""Bytes of the page in which the header is; the records follow, in another place of the address space."""
LOG_SIZE = 2 << 20
HEADER = struct.Struct("<QQ")
RECORD = struct.Struct("<QQ")
"""Virtual address of what was to be copied, and its size in bytes; or a noted argument, and the next one."""
MOST_RECORDS = (LOG_SIZE - HEADER_ROOM) // RECORD.size

_NEXT, _END = (vaddr.to_bytes(4, "little") for vaddr in (LOG_VADDR, LOG_VADDR + 8))
_ARGUMENT_TO_RECORD = (b"\x48\x89\x38", b"\x48\x89\x30", b"\x48\x89\x10", b"\x48\x89\x08")
_NEXT_TO_RECORD = (b"\x48\x89\x70\x08", b"\x48\x89\x50\x08", b"\x48\x89\x48\x08", b"\x4c\x89\x40\x08")
"""mov [rax], rdi, rsi, rdx, rcx; mov [rax + 8], rsi, rdx, rcx, r8."""
_LOAD_NEXT = b"\x48\x8b\x04\x25" + _NEXT + b"\x48\x85\xc0"  # mov rax, [next]; test rax, rax
_IS_FULL = b"\x48\x3b\x04\x25" + _END  # cmp rax, [end]; jae follows
_RETURN_ZERO = b"\x31\xc0\xc3"  # xor eax, eax; ret


def _record(argument: int) -> bytes:
    """An argument, counted from 0, and the next one; RAX is where the record goes."""
    stored = _ARGUMENT_TO_RECORD[argument] + _NEXT_TO_RECORD[argument]
    return stored + b"\x48\x83\xc0\x10" + b"\x48\x89\x04\x25" + _NEXT  # add rax, 16; mov [next], rax


def note() -> bytes:
    """Code that returns 0; while the log is on, with a record of the first two arguments."""
    record = _record(0)
    full = _IS_FULL + b"\x73" + bytes((len(record),)) + record
    return _LOAD_NEXT + b"\x74" + bytes((len(full),)) + full + _RETURN_ZERO


def log_or_go(argument: int, from_vaddr: int, home_vaddr: int, advance_vaddr: int | None) -> bytes:
    """Code at `from_vaddr` that goes on at `home_vaddr` while the log is off. While it is on: a record of the
    argument (counted from 0), an address, and the next one, a size. With `advance_vaddr`, a function of the
    trusted kernel's that takes an iterator and a size, these are the first two, the third is advanced by the
    size, and that is returned; if the log is full, 0. Without it 0 is returned, which means that nothing is
    left to copy, also if the log is full: whoever compares the records with what was read sees that."""
    go = home_vaddr - (from_vaddr + len(_LOAD_NEXT) + 6) & 0xFFFFFFFF
    code = _LOAD_NEXT + b"\x0f\x84" + go.to_bytes(4, "little") + _IS_FULL  # je
    record = _record(argument)
    if advance_vaddr is not None:
        record += b"\x56\x48\x89\xd7"  # push rsi: the stack is aligned now; mov rdi, rdx
        record += b"\xe8" + jump(from_vaddr + len(code) + 2 + len(record), advance_vaddr)[1:]  # call
        record += b"\x58\xc3"  # pop rax; ret
    return code + b"\x73" + bytes((len(record),)) + record + _RETURN_ZERO
