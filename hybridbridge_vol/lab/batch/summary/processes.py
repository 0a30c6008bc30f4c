"""What rows of `ps` say about a process."""

from __future__ import annotations

import re

from hybridbridge_vol.lab.batch.summary.data import Cells, number, text

KTHREADD = 2
"""The process that is the parent of all kernel threads (kernel/kthread.c); its own parent is 0."""


def is_zombie(row: Cells) -> bool:
    """Whether the process has ended and its parent has not collected its exit status."""
    return text(row, "STAT")[:1] in ("Z", "X")


def in_brackets(row: Cells) -> bool:
    """Whether it is shown as `[name]`, as `ps` shows a process without a command line, such as every kernel
    thread."""
    command = text(row, "CMD")
    return command.startswith("[") and command.split(" ")[0].endswith("]")


def is_kernel_thread(row: Cells) -> bool:
    """Whether everything shown about it is as for a kernel thread: no memory of its own, and kthreadd is its
    parent."""
    return (
        not number(row, "VSZ")
        and (number(row, "PID") == KTHREADD or number(row, "PPID") == KTHREADD)
        and not is_zombie(row)
    )


def poses_as_thread(row: Cells) -> bool:
    """Whether it is shown in brackets but is not a kernel thread: it has memory of its own, or another
    parent."""
    if not in_brackets(row) or is_zombie(row):
        return False
    parent = number(row, "PPID")
    return bool(number(row, "VSZ")) or (parent is not None and parent not in (0, KTHREADD))


def thread_family(name: str) -> str:
    """A kernel thread's name without the parts that differ from CPU to CPU and from boot to boot
    (`kworker/0:1-events` is `kworker`)."""
    return re.sub(r"\d+", "#", name.split("/")[0])
