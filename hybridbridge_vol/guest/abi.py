"""The structures that system calls write into a buffer, read as values: x86-64's user ABI."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from hybridbridge_vol.guest.values import Stat, Sysinfo, Uname

STAT_SIZE = 144
"""Bytes of `struct stat`."""
SYSINFO_SIZE = 112
"""Bytes of `struct sysinfo`."""
_UTS_FIELD, _UTS_FIELDS = 65, 6
UNAME_SIZE = _UTS_FIELD * _UTS_FIELDS
"""Bytes of `struct new_utsname` (include/uapi/linux/utsname.h)."""
_RESOLVE_IN_ROOT = 0x10  # include/uapi/linux/openat2.h
_HOW = struct.Struct("<QQQ")
HOW_SIZE = _HOW.size
"""Bytes of `struct open_how` (flags, mode, resolve; the same file)."""


def signed32(value: int) -> int:
    """An `int` of C that a register holds, as an argument or an answer: the upper half is anything."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def how_in_root(flags: int) -> bytes:
    """A `struct open_how` for openat2(2): no link leads out of the directory that a path begins at."""
    return _HOW.pack(flags, 0, _RESOLVE_IN_ROOT)


def seconds_of(seconds: int, nanoseconds: int) -> float:
    """A `struct timespec` in seconds, cut to whole microseconds: up to the year 2106 (2**32 s) a float holds
    these, so that the time is the same in every form in which it is written afterwards."""
    return seconds + nanoseconds // 1000 / 1e6


def directory_entries(data: bytes) -> Iterator[tuple[int, str]]:
    """`(position behind it, name)` of what getdents64 wrote (include/linux/dirent.h, `struct
    linux_dirent64`)."""
    offset = 0
    while offset + 19 <= len(data):
        position, length = struct.unpack_from("<QH", data, offset + 8)
        if length < 20:
            return
        yield position, os.fsdecode(data[offset + 19 : offset + length].split(b"\0")[0])
        offset += length


def parse_stat(data: bytes) -> Stat:
    """`struct stat` (arch/x86/include/uapi/asm/stat.h)."""
    dev, ino, nlink, mode, uid, gid, _pad, rdev, size = struct.unpack_from("<QQQIIIIQq", data)
    seconds, nanoseconds = struct.unpack_from("<qQ", data, 88)
    return Stat(
        mode=mode,
        ino=ino,
        dev=dev,
        nlink=nlink,
        uid=uid,
        gid=gid,
        size=size,
        mtime=seconds_of(seconds, nanoseconds),
        rdev=rdev,
    )


def parse_uname(data: bytes) -> Uname:
    """`struct new_utsname`: six names, each ended by a NUL in its field."""
    fields = (data[start : start + _UTS_FIELD] for start in range(0, UNAME_SIZE, _UTS_FIELD))
    return Uname(*(os.fsdecode(field.split(b"\0")[0]) for field in fields))


def parse_sysinfo(data: bytes) -> Sysinfo:
    """`struct sysinfo` (include/uapi/linux/sysinfo.h)."""
    uptime, *rest = struct.unpack_from("<q3Q6QHHxxxxQQI", data)
    load1, load5, load15, total, free, shared, buffers, total_swap, free_swap, procs, _pad, *high = rest
    total_high, free_high, unit = high
    return Sysinfo(
        uptime, (load1, load5, load15), total, free, shared, buffers, total_swap, free_swap, procs,
        total_high, free_high, unit,
    )  # fmt: skip
