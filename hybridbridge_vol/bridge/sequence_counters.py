"""Counters that a writer of the snapshot held at the capture.

A reader of a seqlock waits while its counter is odd (include/linux/seqlock.h): a writer is at work. The
snapshot's never ends, so every lookup of a path, or of the time, would wait for its whole budget.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual

_FIRST = ("mount_lock", "rename_lock", "tk_core", "timekeeper_data")
"""What every lookup of a path and of the time reads (fs/namespace.c, fs/dcache.c, kernel/time/timekeeping.c).
The counter, of 4 bytes, comes first in each."""


def end_writers(machine: Machine, sides: Sides, space: SnapshotSpace) -> str:
    """Let no writer be at work, in memory that is private to us. What is to be said of it; nothing if none
    was."""
    ended = []
    for name in _FIRST:
        try:
            vaddr = sides.snapshot(name)
            with space.all_lent():  # a number, on whatever page: nothing of it is followed
                counter = int.from_bytes(machine.read(vaddr, 4), "little")
                if counter & 1:
                    machine.write(vaddr, (counter + 1 & 0xFFFF_FFFF).to_bytes(4, "little"))
                    ended.append(name)
        except (KeyError, UnmappedVirtual):
            continue
    if not ended:
        return ""
    return f"something was being changed at the capture ({', '.join(ended)}): what it guards may be half done"
