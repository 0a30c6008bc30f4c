"""Arguments and environments of processes of which the image lacks a page.

execve(2) writes the program's file name, its environment and its arguments to the top of the stack
(fs/exec.c, `copy_strings`); /proc/PID/cmdline and environ read them there, and end without an error where a
page is not mapped (fs/proc/base.c, `get_mm_cmdline`, `environ_read`): empty arguments, as a thread of the
kernel has, or an environment that lacks variables, would be wrong. So would be zeros in place of a page that
was not read when the image was made: no process that has not overwritten all of it has such a page there.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import NamedTuple

from hybridbridge_vol.procfs import pagemap
from hybridbridge_vol.snapshot.blank_pages import ZERO_PAGE
from hybridbridge_vol.units import PAGE_SIZE

ZEROS = (
    "a page of it is zeros: it could not be read when the image was made, or the process has overwritten it"
)
SWAPPED = "a page of it is swapped out"
UNMAPPED = "a page of it cannot be found in memory"
_FILE = re.compile(r"(/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?)/(cmdline|environ)")
_BOUNDS = {"cmdline": 45, "environ": 47}
"""Which fields behind the name in /proc/PID/stat say where they begin; the next one where they end
(fs/proc/array.c, `do_task_stat`)."""


class Ask(NamedTuple):
    """How other files of the guest are read: `read` as a whole, `read_at` from an offset, of a size."""

    read: Callable[[str], bytes]
    read_at: Callable[[str, int, int], bytes]


def check(path: str, data: bytes, ask: Ask) -> None:
    """OSError if `data`, what the file at `path` said, lacks what was in a page that the image lacks. Files
    with other names pass. What `ask` raises is the caller's."""
    found = _FILE.fullmatch(path)
    if found is None or not _may_lack(data):
        return
    folder = found[1]
    bounds = _bounds(ask.read(f"{folder}/stat"), found[2])
    if bounds is None:
        return
    start, end = bounds
    for page in range(start & -PAGE_SIZE, min(end, start + len(data)), PAGE_SIZE):
        part = data[max(page - start, 0) : page + PAGE_SIZE - start]
        if part and not any(part):
            _look_at(page, folder, path, ask)
    behind = start + len(data)
    if behind < end and (not data or behind % PAGE_SIZE == 0):
        _look_at(behind & -PAGE_SIZE, folder, path, ask)


def _look_at(page: int, folder: str, path: str, ask: Ask) -> None:
    """OSError if a page, by its virtual address, is swapped out, cannot be read, or is zeros."""
    entry = int.from_bytes(ask.read_at(f"{folder}/pagemap", page // PAGE_SIZE * 8, 8), "little")
    if not entry & pagemap.PRESENT:
        raise OSError(errno.EIO, SWAPPED if entry & pagemap.SWAPPED else UNMAPPED, path)
    try:
        content = ask.read_at(f"{folder}/mem", page, PAGE_SIZE)
    except OSError:
        raise OSError(errno.EIO, UNMAPPED, path) from None
    if content == ZERO_PAGE:
        raise OSError(errno.EIO, ZEROS, path)


def _may_lack(data: bytes) -> bool:
    """Whether it is empty, has an empty string, or ends within one."""
    return not data or data == b"\0" or data[-1] != 0 or b"\0\0" in data


def _bounds(stat: bytes, name: str) -> tuple[int, int] | None:
    fields = stat[stat.rfind(b")") + 1 :].split()
    first = _BOUNDS[name]
    try:
        start, end = int(fields[first]), int(fields[first + 1])
    except (IndexError, ValueError):
        return None
    return (start, end) if start < end else None
