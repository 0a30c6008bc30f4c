"""What statx(2) reports about a file, as a value."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from hybridbridge_vol.guest.abi import seconds_of
from hybridbridge_vol.guest.values import Stat

STATX_SIZE = 256
"""Bytes of `struct statx` (include/uapi/linux/stat.h)."""
STATX_ALL = 0xFFF
"""STATX_BASIC_STATS and STATX_BTIME."""
AT_STATX_DONT_SYNC = 0x4000
"""include/uapi/linux/fcntl.h: a network file system, or FUSE, answers from what it has, and asks no server.
Others answer the same with it."""
OF_DESCRIPTOR = 0x1000 | AT_STATX_DONT_SYNC
"""The flags that ask so about an open file; the first is AT_EMPTY_PATH."""
_STATX_BTIME = 0x800
_FIXED = struct.Struct("<II Q IIIH2x QQQQ")
_TIMES_AT, _TIME = 64, struct.Struct("<qI4x")
_NUMBERS_AT = 128


class FileAttributes(NamedTuple):
    """The names are those of `struct statx` without its `stx_`. Times are seconds since the epoch; `btime` is
    None where the file system does not keep it."""

    mode: int
    ino: int
    dev: int
    rdev: int
    nlink: int
    uid: int
    gid: int
    size: int
    """Bytes."""
    blocks: int
    """Of 512 bytes."""
    atime: float
    btime: float | None
    ctime: float
    mtime: float

    def as_stat(self) -> Stat:
        """The same as stat(2) has it."""
        return Stat(
            mode=self.mode,
            ino=self.ino,
            dev=self.dev,
            nlink=self.nlink,
            uid=self.uid,
            gid=self.gid,
            size=self.size,
            mtime=self.mtime,
            rdev=self.rdev,
        )


def parse_statx(data: bytes) -> FileAttributes:
    """`struct statx`."""
    mask, _block, _attributes, nlink, uid, gid, mode, ino, size, blocks, _mask = _FIXED.unpack_from(data)
    atime, btime, ctime, mtime = (
        seconds_of(seconds, nanoseconds)
        for seconds, nanoseconds in (_TIME.unpack_from(data, _TIMES_AT + 16 * i) for i in range(4))
    )
    rdev_major, rdev_minor, major, minor = struct.unpack_from("<4I", data, _NUMBERS_AT)
    return FileAttributes(
        mode=mode,
        ino=ino,
        dev=os.makedev(major, minor),
        rdev=os.makedev(rdev_major, rdev_minor),
        nlink=nlink,
        uid=uid,
        gid=gid,
        size=size,
        blocks=blocks,
        atime=atime,
        btime=btime if mask & _STATX_BTIME else None,
        ctime=ctime,
        mtime=mtime,
    )
