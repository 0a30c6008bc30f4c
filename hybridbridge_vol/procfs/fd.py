"""The format of /proc/PID/fdinfo/N: a descriptor's position, flags and locks.

Sources: fs/proc/fd.c (`seq_show`), fs/locks.c (`show_fd_locks`), fs/eventfd.c, fs/eventpoll.c, kernel/pid.c
(Linux 5.10 to 6.12). What a kind of file adds is read by key.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text

O_ACCMODE, O_PATH = 3, 0o10000000
"""include/uapi/asm-generic/fcntl.h."""


class FdInfo(NamedTuple):
    """/proc/PID/fdinfo/N, as far as lsof needs it."""

    position: int
    """Bytes into the file."""
    flags: int
    """Those of open(2)."""
    lock: str
    """lsof's letter: R, W for a read or write lock on the whole file, r, w on a part of it; empty for
    none."""
    detail: str
    """What an anonymous inode refers to: the id of an eventfd, the descriptors that an epoll watches (rising,
    as in lsof; the kernel lists them by the addresses of their files), the process of a pidfd."""

    @property
    def access(self) -> str:
        """lsof's letter: r, w or u for both; empty for a descriptor that only names a file (O_PATH)."""
        return "" if self.flags & O_PATH else "rwu"[min(self.flags & O_ACCMODE, 2)]


def parse_fdinfo(data: bytes) -> FdInfo:
    """Lines of `key:\\tvalue`. Raises ParseError.

    Reading ends at a name that a process chose, which the kernel does not escape (drivers/dma-buf/dma-buf.c,
    `dma_buf_show_fdinfo`); what is read here stands before it.
    """
    found: dict[bytes, list[bytes]] = {}
    for line in data.split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"name":
            break
        found.setdefault(key, []).append(value.strip())
    try:
        position, flags = int(found[b"pos"][0]), int(found[b"flags"][0], 8)
    except (KeyError, ValueError):
        raise ParseError(f"not in the form of /proc/PID/fdinfo: {data[:40]!r}") from None
    numbers = [
        re.match(rb"-?\d+", value) for key in (b"eventfd-id", b"tfd", b"Pid") for value in found.get(key, ())
    ]
    detail = ",".join(text(number) for number in sorted((match[0] for match in numbers if match), key=int))
    return FdInfo(position, flags, _lock_letter(found.get(b"lock", [])), detail)


def _lock_letter(locks: list[bytes]) -> str:
    """The strongest of `1: POSIX  ADVISORY  WRITE 285 00:02:188 0 EOF`."""
    letters = set()
    for lock in locks:
        words = lock.split()
        if len(words) >= 8 and words[3] in (b"READ", b"WRITE"):
            letter = words[3][:1].decode()
            letters.add(letter if words[-2:] == [b"0", b"EOF"] else letter.lower())
    return next((letter for letter in "WwRr" if letter in letters), "")


def socket_inode(target: str) -> int | None:
    """The inode number in `socket:[123]`, as readlink(2) writes a socket; None for anything else."""
    number = target.removeprefix("socket:[").removesuffix("]")
    return int(number) if target == f"socket:[{number}]" and number.isdecimal() and number.isascii() else None
