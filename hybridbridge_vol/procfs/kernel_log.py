"""The format of the kernel's log from syslog(2): a prefix and one line of a message (kernel/printk/printk.c,
`print_prefix`). Each line of a message of several has a prefix of its own (`record_print_text`), so that no
text of a message can pose as one."""

from __future__ import annotations

import re
from typing import NamedTuple

from hybridbridge_vol.procfs.pid import text

LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "res0", "res1", "res2", "res3", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
)  # fmt: skip
"""Names as dmesg(1) has them; a priority is facility * 8 + level (include/linux/kern_levels.h,
sys/syslog.h)."""

_PREFIX = re.compile(rb"<(\d{1,9})>(?:\[ *(\d{1,12}\.\d+)(?:\]|\]\[ *[TC]\d+\]) )?")


class Message(NamedTuple):
    """One line. `seconds` since boot, None where the kernel prints no times; `[start, end)` are its offsets
    in the text."""

    priority: int | None
    seconds: float | None
    message: str
    start: int
    end: int

    @property
    def level(self) -> str | None:
        """The name of its level."""
        return None if self.priority is None else LEVELS[self.priority & 7]

    @property
    def facility(self) -> str | None:
        """The name of its facility, or the number if it has none."""
        if self.priority is None:
            return None
        number = self.priority >> 3
        return FACILITIES[number] if number < len(FACILITIES) else str(number)


def parse_log(data: bytes) -> list[Message]:
    """The lines of a log, first to last. The first may be cut off; a line without a priority is kept as it
    is."""
    found, start = [], 0
    for line in data.split(b"\n"):
        end = start + len(line)
        if line:
            prefix = _PREFIX.match(line)
            if prefix is None:
                found.append(Message(None, None, text(line), start, end))
            else:
                seconds = None if prefix[2] is None else float(prefix[2])
                found.append(Message(int(prefix[1]), seconds, text(line[prefix.end() :]), start, end))
        start = end + 1
    return found
