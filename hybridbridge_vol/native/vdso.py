"""The clocks in a program's vDSO, made system calls.

The C library reads clocks by code that the kernel maps into each process (vdso(7)), which makes no system
call: the host's time would be read. Its functions are overwritten by `mov eax, NUMBER; syscall; ret`, in the
program's private copy, through /proc/PID/mem, as a debugger writes breakpoints.
"""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache

from hybridbridge_vol.native.abi import NUMBERS

_FUNCTIONS = {
    b"__vdso_clock_gettime": "clock_gettime",
    b"__vdso_gettimeofday": "gettimeofday",
    b"__vdso_time": "time",
    b"clock_gettime": "clock_gettime",
    b"gettimeofday": "gettimeofday",
    b"time": "time",
}
_AT_SYSINFO_EHDR, AT_BASE = 33, 7  # include/uapi/linux/auxvec.h
_PT_DYNAMIC, _DT_STRTAB, _DT_SYMTAB = 2, 5, 6  # include/uapi/linux/elf.h


def auxiliary_vector(pid: int | str) -> dict[int, int]:
    """The values that the kernel gave to a program when it started it. OSError."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        data = file.read()
    return dict(struct.iter_unpack("<QQ", data[: len(data) & ~15]))


def _own_vdso() -> bytes:
    with open("/proc/self/maps") as file:
        for line in file:
            if line.rstrip().endswith("[vdso]"):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                return ctypes.string_at(start, end - start)
    return b""


@cache
def _offsets() -> dict[int, bytes]:
    """What is written where in the vDSO, which is the same in every process of this host's kernel."""
    image = _own_vdso()
    if not image:
        return {}
    headers, count = struct.unpack_from("<Q", image, 32)[0], struct.unpack_from("<H", image, 56)[0]
    dynamic = b""
    for number in range(count):
        header = struct.unpack_from("<IIQQQQ", image, headers + 56 * number)
        kind, _flags, offset, _vaddr, _paddr, size = header
        if kind == _PT_DYNAMIC:
            dynamic = image[offset : offset + size]
    tags = dict(struct.iter_unpack("<QQ", dynamic[: len(dynamic) & ~15]))
    names, symbols = tags[_DT_STRTAB], tags[_DT_SYMTAB]
    found = {}
    for at in range(symbols, names, 24):  # the names follow the symbols
        name, _info, _other, section, value = struct.unpack_from("<IBBHQ", image, at)
        if names + name >= len(image):
            break
        text = image[names + name : image.index(b"\0", names + name)]
        if text in _FUNCTIONS and section:
            number = NUMBERS[_FUNCTIONS[text]]
            found[value] = b"\xb8" + struct.pack("<I", number) + b"\x0f\x05\xc3"
    return found


def patch(pid: int) -> None:
    """Overwrite the clocks of a process. Nothing happens if it has no vDSO. OSError."""
    base = auxiliary_vector(pid).get(_AT_SYSINFO_EHDR)
    if not base:
        return
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        for offset, code in _offsets().items():
            os.pwrite(memory, code, base + offset)
    finally:
        os.close(memory)
