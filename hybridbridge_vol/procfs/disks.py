"""Which block devices are whole disks: what iostat and vmstat list."""

from __future__ import annotations

from hybridbridge_vol.toolkit.guest_kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import UNREADABLE


def whole_disks(kernel: GuestKernel) -> set[str] | None:
    """The disks in /sys/block, where partitions are not and a `/` of a name is `!`; None if that cannot be
    told."""
    try:
        return set(kernel.listdir("/sys/block")) or None
    except UNREADABLE:
        return None
