"""The disks of /proc/diskstats, for iostat and vmstat, and which of them are whole disks."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.guest.values import PartialFile
from hybridbridge_vol.procfs.counters import DiskStat, parse_diskstat
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

DISKSTATS = "/proc/diskstats"


def disks(files: Files) -> Iterator[tuple[DiskStat | Unavailable, Source]]:
    """Each disk and partition, or why its line cannot be read; last, why these are not all. Raises OSError
    and CallRolledBack if there is none."""
    gap = None
    try:
        data = files.read(DISKSTATS)
    except PartialFile as error:
        data, gap = error.partial, why(DISKSTATS, error)
    for line, source in lines(DISKSTATS, data):
        try:
            yield parse_diskstat(line), source
        except ParseError as error:
            yield Unavailable(f"{DISKSTATS}: {error}"), source
    if gap:
        yield gap, Source(DISKSTATS)


def whole_disks(files: Files) -> set[str] | None:
    """The names in /sys/block, which has no partitions, and has `!` for a `/` of a name; None if they are not
    known."""
    try:
        return set(files.listdir("/sys/block")) or None
    except UNREADABLE:
        return None


def is_whole(disk: DiskStat, whole: set[str] | None) -> bool:
    """Whether it is one of the `whole_disks`; true for all where these are not known."""
    return whole is None or disk.name.replace("/", "!") in whole
