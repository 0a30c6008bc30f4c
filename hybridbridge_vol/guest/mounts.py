"""Mounting the snapshot's /proc, /sys and control groups in the agent's own tree, each when it is first needed.

A file system is mounted by the trusted kernel, with its type's operations pointing into the twin: from then on every
table of operations that it hands out leads to the twin, and so to the snapshot's own state.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from hybridbridge_vol.bridge.calls import Caller
from hybridbridge_vol.errors import CallUndone

TYPES = {
    "/proc": ("proc", "proc_fs_type"),
    "/sys": ("sysfs", "sysfs_fs_type"),
    "/sys/fs/cgroup": ("cgroup2", "cgroup2_fs_type"),
}
"""Where what is mounted: the type's name, and the variable that describes it."""

_TYPE_SIZE = 128  # struct file_system_type, include/linux/fs.h, is no longer than that; its list heads come last
_MOST_TYPES = 256
U64 = (1 << 64) - 1


class Mounts:
    """What is mounted so far. `where` must not be behind a link."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._bridge = caller.bridge
        self._failed: dict[str, CallUndone | OSError] = {}
        self._mounted: set[str] = set()

    def reach(self, path: str) -> bool:
        """Mount what a path leads through; whether anything was. Raises CallUndone or OSError if it cannot be, again
        and again."""
        fresh = False
        for where, (kind, fs_type) in TYPES.items():
            if where in self._mounted or not (path + "/").startswith(where + "/"):
                continue
            if where in self._failed:
                raise self._failed[where]
            try:
                self._mount(where, kind, fs_type)
            except (CallUndone, OSError) as error:
                self._failed[where] = error
                raise
            self._mounted.add(where)
            fresh = True
        return fresh

    def _mount(self, where: str, kind: str, fs_type: str) -> None:
        with self._moved_type(fs_type):
            names = [self._caller.put(kind.encode() + b"\0", 0), self._caller.put(where.encode() + b"\0", 256)]
            answer = self._caller.syscall("mount", names[0], names[1], names[0], 0, 0, label=f"mount {kind}")
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer), where)

    @contextlib.contextmanager
    def _moved_type(self, fs_type: str) -> Iterator[None]:
        """Meanwhile the trusted kernel's type stands where the snapshot has its own, with its operations in the twin.

        Some of them ask whether they were called for `&cgroup2_fs_type`, and in the twin that is the snapshot's.
        """
        bridge, machine = self._bridge, self._bridge.machine
        try:
            home, moved, first = bridge.home(fs_type), bridge.snapshot(fs_type), bridge.home("file_systems")
        except KeyError as error:
            raise OSError(errno.ENODEV, "the kernel has no such file system", str(error)) from None
        holder, next_at = self._holder(first, home)
        shift = bridge.layout.shift - bridge.home_delta
        text = bridge.kernel.text_link_vaddr + bridge.home_delta
        end = bridge.home("_etext")
        for offset in range(0, next_at, 8):
            word = machine.read_u64(home + offset)
            machine.write_u64(moved + offset, (word + shift) & U64 if text <= word < end else word)
        lists = [(place, machine.read_u64(place)) for place in (moved + next_at, moved + next_at + 8)]
        machine.write_u64(moved + next_at, machine.read_u64(home + next_at))
        machine.write_u64(moved + next_at + 8, 0)  # fs_supers: none of the snapshot's
        machine.write_u64(holder, moved)
        yield
        machine.write_u64(holder, home)
        for place, word in lists:
            machine.write_u64(place, word)

    def _holder(self, first: int, wanted: int) -> tuple[int, int]:
        """Where the pointer to the type at `wanted` is stored, on the list that begins at `first`, and the offset of
        `next` in a type: the one with which the list has the most members. OSError if it is not on the list."""
        chains = [(self._chain(first, next_at), next_at) for next_at in range(8, _TYPE_SIZE, 8)]
        chain, next_at = max(chains, key=lambda item: len(item[0]))
        if wanted not in chain:
            raise OSError(errno.ENODEV, "the trusted kernel does not know this file system")
        return chain[wanted], next_at

    def _chain(self, holder: int, next_at: int) -> dict[int, int]:
        """The types on the list, each with where the pointer to it is stored; none if the list does not end."""
        machine, found = self._bridge.machine, dict[int, int]()
        while following := machine.read_u64(holder):
            if following in found or len(found) == _MOST_TYPES or machine.translate(following + next_at) is None:
                return {}
            found[following] = holder
            holder = following + next_at
        return found
