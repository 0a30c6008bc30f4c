"""What system calls write into the proxy task's buffers, as values."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from hybridbridge_vol.toolkit.guest_kernel import Stat, Sysinfo

STAT_SIZE = 144
"""Bytes of `struct stat` of x86-64."""


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
    """`struct stat` of x86-64 (arch/x86/include/uapi/asm/stat.h)."""
    dev, ino, nlink, mode, uid, gid, _pad, rdev, size = struct.unpack_from("<QQQIIIIQq", data)
    seconds, nanoseconds = struct.unpack_from("<QQ", data, 88)
    return Stat(
        mode=mode,
        ino=ino,
        dev=dev,
        nlink=nlink,
        uid=uid,
        gid=gid,
        size=size,
        mtime=seconds + nanoseconds / 1e9,
        rdev=rdev,
    )


def parse_sysinfo(data: bytes) -> Sysinfo:
    """`struct sysinfo` (include/uapi/linux/sysinfo.h)."""
    uptime, *rest = struct.unpack_from("<q3Q6QHHxxxxQQI", data)
    loads, (total, free, shared, buffers, total_swap, free_swap, procs, _pad, total_high, free_high, unit) = (
        rest[:3],
        rest[3:],
    )
    return Sysinfo(
        uptime,
        (loads[0], loads[1], loads[2]),
        total,
        free,
        shared,
        buffers,
        total_swap,
        free_swap,
        procs,
        total_high,
        free_high,
        unit,
    )
