"""The two forms of a file's attributes: `struct stat` (arch/x86/include/uapi/asm/stat.h) and `struct statx`
(include/uapi/linux/stat.h)."""

from __future__ import annotations

import os
import struct

from hybridbridge_vol.guest.values import Stat

_STAT = struct.Struct("<QQQIII4xQqqq6q24x")
_STATX_BASIC = 0x7FF
_BLOCK = 512
MODE_AT = 24
"""Where `st_mode` is."""
STAT_SIZE = _STAT.size


def stat_of_host(seen: os.stat_result) -> bytes:
    """The `struct stat` of a file of the host's."""
    times = (seen.st_atime_ns, seen.st_mtime_ns, seen.st_ctime_ns)
    return _STAT.pack(
        seen.st_dev, seen.st_ino, seen.st_nlink, seen.st_mode, seen.st_uid, seen.st_gid, seen.st_rdev,
        seen.st_size, seen.st_blksize, seen.st_blocks,
        *(part for time in times for part in divmod(time, 1_000_000_000)),
    )  # fmt: skip


def stat_of_values(seen: Stat, block: int) -> bytes:
    """A `struct stat` of what is known of a file of /proc: it has one time, and no blocks but its size."""
    moment = (int(seen.mtime), round(seen.mtime % 1 * 1_000_000) * 1000)
    return _STAT.pack(
        seen.dev, seen.ino, seen.nlink, seen.mode, seen.uid, seen.gid, seen.rdev, seen.size, block,
        -(-seen.size // _BLOCK), *moment * 3,
    )  # fmt: skip


def stat_of_statx(data: bytes) -> bytes:
    """The `struct stat` of a `struct statx`."""
    block, nlink, uid, gid, mode = struct.unpack_from("<4x I 8x IIIH", data)
    ino, size, blocks = struct.unpack_from("<QQQ", data, 32)
    times = [struct.unpack_from("<qI", data, 64 + 16 * number) for number in (0, 3, 2)]
    rdev_major, rdev_minor, major, minor = struct.unpack_from("<4I", data, 128)
    return _STAT.pack(
        os.makedev(major, minor), ino, nlink, mode, uid, gid, os.makedev(rdev_major, rdev_minor), size, block,
        blocks, *(part for time in times for part in time),
    )  # fmt: skip


def statx_of_stat(data: bytes) -> bytes:
    """The `struct statx` of a `struct stat`."""
    dev, ino, nlink, mode, uid, gid, rdev, size, block, blocks, *times = _STAT.unpack(data)
    atime, mtime, ctime = (struct.pack("<qI4x", *times[at : at + 2]) for at in (0, 2, 4))
    head = struct.pack(
        "<IIQIIIH2xQQQQ", _STATX_BASIC, block, 0, nlink & 0xFFFF_FFFF, uid, gid, mode, ino, size, blocks, 0
    )
    numbers = struct.pack("<4I", os.major(rdev), os.minor(rdev), os.major(dev), os.minor(dev))
    return (head + atime + bytes(16) + ctime + mtime + numbers).ljust(256, b"\0")
