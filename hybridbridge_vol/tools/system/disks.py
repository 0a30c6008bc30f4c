"""Which block devices are whole disks: what iostat and vmstat list."""

from __future__ import annotations

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.reading import UNREADABLE


def whole_disks(files: Files) -> set[str] | None:
    """The disks in /sys/block, where partitions are not and a `/` of a name is `!`; None if that cannot be
    told."""
    try:
        return set(files.listdir("/sys/block")) or None
    except UNREADABLE:
        return None
