"""The seccomp filter, run by a small interpreter of its instructions: what it says about a system call."""

from __future__ import annotations

import struct

from hybridbridge_vol.native import filter as seccomp_filter

ALLOW, NOTIFY, ERROR = 0x7FFF0000, 0x7FC00000, 0x00050000
X86_64, I386, X32 = 0xC000003E, 0x40000003, 0x40000000
PROGRAM = list(struct.iter_unpack("<HBBI", seccomp_filter.program()))


def verdict(number: int, *arguments: int, arch: int = X86_64) -> int:
    """What the kernel does with a call (net/core/filter.c, for the instructions that are used)."""
    given = [*arguments, *(0,) * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *(value & (1 << 64) - 1 for value in given))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = PROGRAM[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            at += if_true if holds[code] else if_false
