"""Which processes the control groups hold, as each group's `cgroup.procs` tells: lists of their own, beside
those of processes.

`cgroup_procs_show` and `css_task_iter`, kernel/cgroup/cgroup.c. A process that ended and waits for its parent
is in no group.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from errno import ENODEV, ENOENT, EOPNOTSUPP

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import Question
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

ROOT = "/sys/fs/cgroup"
MAX_GROUPS = 20000
_NO_GROUPS_BELOW = 2
"""Links to a directory without directories in it (`kernfs_create_dir_ns`, `kernfs_get`; fs/kernfs/dir.c)."""


def grouped_processes(kernel: GuestKernel) -> tuple[set[int], Unavailable | None]:
    """Ids of the processes in the control groups of the unified hierarchy, which has all, and why that may
    not be all of them. OSError if the kernel has no control groups."""
    found: set[int] = set()
    gap: Unavailable | None = None
    groups, waiting = 0, [ROOT]
    while waiting:
        if groups > MAX_GROUPS:
            return found, Unavailable(f"{ROOT}: more than {MAX_GROUPS} groups")
        groups += len(waiting)
        kernel.files.expect(Question("read", f"{group}/cgroup.procs") for group in waiting)
        for group in waiting:
            try:
                found.update(
                    int(word) for word in kernel.files.read(f"{group}/cgroup.procs").split() if word.isdigit()
                )
            except UNREADABLE as error:
                if isinstance(error, OSError) and group == ROOT and error.errno in (ENOENT, ENODEV):
                    raise
                if (
                    not isinstance(error, OSError) or error.errno != EOPNOTSUPP
                ):  # of threads alone: told by a group above
                    gap = why(f"{group}/cgroup.procs", error)
        try:
            waiting = [below for group in waiting for below in _below(kernel, group)]
        except UNREADABLE as error:
            return found, why(ROOT, error)
    return found - {0}, gap


def _below(kernel: GuestKernel, group: str) -> Iterator[str]:
    """The groups in a group."""
    if kernel.files.stat(group).nlink <= _NO_GROUPS_BELOW:
        return
    paths = [f"{group}/{name}" for name in kernel.files.listdir(group)]
    kernel.files.expect(Question("lstat", path) for path in paths)
    for path in paths:
        if stat.S_ISDIR(kernel.files.stat(path).mode):
            yield path
