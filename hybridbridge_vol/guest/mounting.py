"""Mounting the snapshot's /proc, /sys and control groups in the proxy task's own tree, each when it is first
needed.

A file system is mounted by the trusted kernel, with its type's operations pointing into the twin: from then
on every table of operations that it hands out leads to the twin, and so to the snapshot's own state.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import CallRolledBack, kernel_error
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

TYPES = {
    "/proc": ("proc", "proc_fs_type"),
    "/sys": ("sysfs", "sysfs_fs_type"),
    "/sys/fs/cgroup": ("cgroup2", "cgroup2_fs_type"),
}
"""Where what is mounted: the type's name, and the variable that describes it."""

_CHANGED = {"cgroup2": "cgrp_dfl_visible"}
"""A byte of the snapshot's that mounting a file system changes: whether /proc/PID/cgroup shows the unified
hierarchy, which it does once somebody has mounted it (`cgroup_get_tree`, kernel/cgroup/cgroup.c)."""
_TYPE_SIZE = 128
"""Bytes that `struct file_system_type` (include/linux/fs.h) takes at most; its list heads come last."""
_MOST_TYPES = 256


class _Link(NamedTuple):
    """`holder` is where the pointer to a type is stored, `target` what in the type it points to, `offset` and
    `words` the type's own part of the list."""

    holder: int
    offset: int
    words: int
    target: int


class Mounts:
    """What is mounted so far."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._bridge = caller.bridge
        self._failed: dict[str, CallRolledBack | OSError] = {}
        self._mounted: set[str] = set()

    def reach(self, path: str) -> None:
        """Mount what a path leads through, and move the mark that calls are rolled back to behind it. Raises
        CallRolledBack or OSError if it cannot be mounted, each time it is asked for."""
        for where, (kind, fs_type) in TYPES.items():
            if where in self._mounted or not (path + "/").startswith(where + "/"):
                continue
            if where in self._failed:
                raise self._failed[where]
            self._caller.without_sockets()
            try:
                self._mount_or_error(where, kind, fs_type)
            except (CallRolledBack, OSError) as error:
                self._failed[where] = error
                raise
            self._mounted.add(where)
            self._caller.mark()

    def _mount_or_error(self, where: str, kind: str, fs_type: str) -> None:
        try:
            self._mount(where, kind, fs_type)
        except UnmappedVirtual as error:  # the type, or what mounting changes, is not in the image
            self._caller.roll_back()
            reason = self._bridge.virtual_memory.why_unreadable(error.vaddr) or str(error)
            raise CallRolledBack(f"mount {kind}", reason) from None

    def _mount(self, where: str, kind: str, fs_type: str) -> None:
        with self._moved_type(fs_type), self._kept(_CHANGED.get(kind)):
            names = [
                self._caller.put(kind.encode() + b"\0", 0),
                self._caller.put(where.encode() + b"\0", 256),
            ]
            answer = self._caller.syscall("mount", names[0], names[1], names[0], 0, 0, label=f"mount {kind}")
        if answer < 0:
            raise kernel_error(answer, where)

    @contextlib.contextmanager
    def _kept(self, variable: str | None) -> Iterator[None]:
        """Put a byte of the snapshot's back afterwards; nothing if the kernel has no such variable."""
        bridge, machine = self._bridge, self._bridge.machine
        if variable is None or variable not in bridge.kernel.symbols:
            yield
            return
        vaddr = bridge.snapshot(variable)
        with bridge.space.all_lent():
            before = machine.read(vaddr, 1)
        yield
        with bridge.space.all_lent():
            machine.write(vaddr, before)

    @contextlib.contextmanager
    def _moved_type(self, fs_type: str) -> Iterator[None]:
        """Meanwhile the trusted kernel's type stands where the snapshot has its own, with its operations in
        the twin.

        Some of them ask whether they were called for `&cgroup2_fs_type`, and in the twin that is the
        snapshot's.
        """
        bridge, machine = self._bridge, self._bridge.machine
        try:
            home, moved, first = bridge.home(fs_type), bridge.snapshot(fs_type), bridge.home("file_systems")
        except KeyError as error:
            raise OSError(errno.ENODEV, "the kernel has no such file system", str(error)) from None
        link = self._link(first, home)
        shift = bridge.layout.shift - bridge.home_delta
        text = bridge.kernel.text_link_vaddr + bridge.home_delta
        end = bridge.home("_etext")
        ends = range(link.offset, link.offset + 8 * link.words, 8)
        supers = ends.stop  # fs_supers, which follows: the mounts of this type
        with bridge.space.all_lent():  # whatever else is on the page: no pointer of it is followed here
            for offset in range(0, link.offset, 8):
                word = machine.read_u64(home + offset)
                machine.write_u64(moved + offset, (word + shift) & U64 if text <= word < end else word)
            theirs = [(moved + offset, machine.read_u64(moved + offset)) for offset in (*ends, supers)]
            for offset in ends:
                machine.write_u64(moved + offset, machine.read_u64(home + offset))
            machine.write_u64(moved + supers, 0)
        machine.write_u64(link.holder, moved + link.target)
        yield
        machine.write_u64(link.holder, home + link.target)
        with bridge.space.all_lent():
            for vaddr, word in theirs:
                machine.write_u64(vaddr, word)

    def _link(self, first: int, wanted: int) -> _Link:
        """How the type at `wanted` hangs on the list that begins at `first`. OSError if it does not.

        A chain of `next` pointers up to 7.1; then an hlist, whose nodes know where the pointer to them is
        stored.
        """
        machine = self._bridge.machine
        chains = [(self._chain(first, next_at), next_at) for next_at in range(8, _TYPE_SIZE, 8)]
        chain, next_at = max(chains, key=lambda item: len(item[0]))
        if wanted in chain:
            return _Link(chain[wanted], next_at, 1, 0)
        for node in range(8, _TYPE_SIZE - 8, 8):
            holder = machine.read_u64(wanted + node + 8)
            if machine.translate(holder) is not None and machine.read_u64(holder) == wanted + node:
                return _Link(holder, node, 2, node)
        raise OSError(errno.ENODEV, "the trusted kernel does not know this file system")

    def _chain(self, holder: int, next_at: int) -> dict[int, int]:
        """The types on a list of `next` pointers, each with where the pointer to it is stored; none if it
        does not end."""
        machine, found = self._bridge.machine, dict[int, int]()
        while following := machine.read_u64(holder):
            if (
                following in found
                or len(found) == _MOST_TYPES
                or machine.translate(following + next_at) is None
            ):
                return {}
            found[following] = holder
            holder = following + next_at
        return found
