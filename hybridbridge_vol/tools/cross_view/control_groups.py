"""Which processes the control groups hold, by each group's `cgroup.procs`: a list beside those of processes.

`cgroup_procs_show` and `css_task_iter`, kernel/cgroup/cgroup.c. A process that has ended and waits for its
parent is in no group.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from errno import ENODEV, ENOENT, EOPNOTSUPP

from hybridbridge_vol.guest.kernel import KernelFiles
from hybridbridge_vol.guest.values import PartialFile, Question
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

ROOT = "/sys/fs/cgroup"
MAX_GROUPS = 20000
_NO_GROUPS_BELOW = 2
"""Links to a directory without directories in it (`kernfs_create_dir_ns`, `kernfs_get`; fs/kernfs/dir.c)."""


def grouped_processes(files: KernelFiles) -> tuple[set[int], Unavailable | None]:
    """Ids of the processes in the control groups of the unified hierarchy, which has all processes, and why
    these may not be all. OSError if the kernel has no control groups."""
    found: set[int] = set()
    read_error: Unavailable | None = None
    groups, level = 0, [ROOT]
    while level:
        if groups > MAX_GROUPS:
            return found, Unavailable(f"{ROOT}: more than {MAX_GROUPS} groups")
        groups += len(level)
        files.expect(Question("read", f"{group}/cgroup.procs") for group in level)
        for group in level:
            members, lack = _members(files, group)
            read_error = lack or read_error
            found |= members
        try:
            level = [below for group in level for below in _below(files, group)]
        except UNREADABLE as error:
            return found, why(ROOT, error)
    return found - {0}, read_error


def _members(files: KernelFiles, group: str) -> tuple[set[int], Unavailable | None]:
    """The processes in a group, and why these may not be all. OSError for the root of a hierarchy that does
    not exist."""
    path = f"{group}/cgroup.procs"
    try:
        return _numbers(files.read(path)), None
    except PartialFile as error:
        return _numbers(error.partial), why(path, error)
    except UNREADABLE as error:
        number = error.errno if isinstance(error, OSError) else None
        if group == ROOT and number in (ENOENT, ENODEV):
            raise
        if number == EOPNOTSUPP:  # a group of threads: their processes are in a group above it
            return set(), None
        return set(), why(path, error)


def _numbers(data: bytes) -> set[int]:
    return {int(word) for word in data.split() if word.isdigit()}


def _below(files: KernelFiles, group: str) -> Iterator[str]:
    """The groups in a group."""
    if files.stat(group).nlink <= _NO_GROUPS_BELOW:
        return
    paths = [f"{group}/{name}" for name in files.listdir(group)]
    files.expect(Question("lstat", path) for path in paths)
    for path in paths:
        if stat.S_ISDIR(files.stat(path).mode):
            yield path
