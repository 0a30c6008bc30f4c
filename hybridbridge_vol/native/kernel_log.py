"""/dev/kmsg: the records of the kernel's log, as the image's own driver writes them, one for each read
(Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import stat

from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.answers import Answers

PATH = "/dev/kmsg"
_DEVICE = os.makedev(1, 11)  # Documentation/admin-guide/devices.txt
MAX_RECORDS = 1 << 17
"""Records of the largest log (CONFIG_LOG_BUF_SHIFT is 25 at most) and more: a log of more is cyclic."""
_LONGEST = 8192


class KernelLog:
    """The log of the image. It is the only device that is read: its driver answers from memory alone."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def is_at(self, path: str) -> bool:
        """Whether a path of the image leads to its device."""
        if path != PATH:
            return False
        seen = self._answers.attributes(path)
        return stat.S_ISCHR(seen.mode) and seen.rdev == _DEVICE

    def record(self, number: int, room: int, nonblocking: bool) -> bytes:
        """A record. Behind the last one OSError EAGAIN, or nothing, where the device would wait for the next;
        EINVAL if there is no room for it."""
        records = self._answers.once(("kernel log",), self._records)
        if number >= len(records):
            if nonblocking:
                raise failed(errno.EAGAIN)
            return b""
        if len(records[number]) > room:
            raise failed(errno.EINVAL)
        return records[number]

    def _records(self) -> list[bytes]:
        found: list[bytes] = []
        with self._answers.session.files.open(PATH) as file:
            while len(found) < MAX_RECORDS:
                try:
                    record = file.read(_LONGEST)
                except OSError as error:
                    if error.errno == errno.EAGAIN:
                        return found
                    raise
                if not record:
                    return found
                found.append(record)
        self._answers.note(PATH, f"more than {MAX_RECORDS:,} records")
        return found
