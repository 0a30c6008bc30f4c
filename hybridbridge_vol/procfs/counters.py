"""The formats of the kernel's counters: /proc/stat, /proc/meminfo, /proc/vmstat, /proc/diskstats.

Sources: fs/proc/stat.c, fs/proc/meminfo.c, mm/vmstat.c, block/genhd.c (`diskstats_show`). Lines and fields
are only ever added, so all are read by name or by position. What an older kernel does not count is 0.
Names are the kernel's and its drivers', but for those of interfaces in /proc/interrupts (procfs/net_dev.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import split_lines

_TIMES = 10
_OF_WHOLE_MACHINE = ("ERR", "MIS")
"""Lines of /proc/interrupts with one number for the whole machine (arch/x86/kernel/irq.c,
`arch_show_interrupts`)."""


class CpuTimes(NamedTuple):
    """One `cpu` line of /proc/stat, in ticks of 1/100 s. `user` includes `guest`, `nice` includes
    `guest_nice`."""

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int
    guest: int
    guest_nice: int

    @property
    def total(self) -> int:
        """All of the CPU's time; that of guests is in `user` and `nice`."""
        return sum(self[:8])

    def share(self, ticks: int) -> float:
        """Ticks in percent of all of the CPU's time, as `per_second`."""
        return ticks / self.total * 100 if self.total else 0.0


def per_second(count: int, uptime: float) -> float:
    """Events a second since boot, of which so many seconds have passed. The order of the divisions is
    sysstat's (common.h, `S_VALUE`): another one rounds some last digit in another way."""
    return count / (round(uptime * 100) or 1) * 100


class KernelStat(NamedTuple):
    """/proc/stat. `cpus` by the numbers of those online; the counts are since boot."""

    total: CpuTimes
    cpus: dict[int, CpuTimes]
    counts: dict[str, int]
    """The first number of every other line: intr, ctxt, btime, processes, procs_running, procs_blocked,
    softirq."""


def parse_kernel_stat(data: bytes) -> KernelStat:
    """/proc/stat. Raises ParseError."""
    times: dict[str, CpuTimes] = {}
    counts: dict[str, int] = {}
    try:
        for line in split_lines(data):
            name, *numbers = text(line).split(" ")
            if name.startswith("cpu"):
                values = [int(number) for number in numbers if number][:_TIMES]
                times[name] = CpuTimes(*values, *[0] * (_TIMES - len(values)))
            elif numbers:
                counts[name] = int(numbers[0])
        cpus = {int(name[3:]): value for name, value in times.items() if name != "cpu"}
        return KernelStat(times["cpu"], cpus, counts)
    except (ValueError, KeyError):
        raise ParseError(f"not in the form of /proc/stat: {data[:40]!r}") from None


def parse_meminfo(data: bytes) -> dict[str, int]:
    """/proc/meminfo in bytes, by name; HugePages_* are pages. Raises ParseError."""
    found = {}
    for match in re.finditer(rb"^([\w()]+): +(\d+)( kB)?$", data, re.MULTILINE):
        found[match[1].decode()] = int(match[2]) * (1024 if match[3] else 1)
    if "MemTotal" not in found:
        raise ParseError(f"not in the form of /proc/meminfo: {data[:40]!r}")
    return found


def available_memory(memory: Mapping[str, int]) -> int:
    """MemAvailable of /proc/meminfo; MemFree where an old kernel has none, or where it cannot be, as the
    host's amount in a container (procps, library/meminfo.c)."""
    available = memory.get("MemAvailable", 0)
    return available if 0 < available <= memory.get("MemTotal", 0) else memory.get("MemFree", 0)


def parse_vmstat(data: bytes) -> dict[str, int]:
    """/proc/vmstat by name. Raises ParseError."""
    found = {match[1].decode(): int(match[2]) for match in re.finditer(rb"^(\w+) (\d+)$", data, re.MULTILINE)}
    if "pgpgin" not in found:
        raise ParseError(f"not in the form of /proc/vmstat: {data[:40]!r}")
    return found


class DiskStat(NamedTuple):
    """One line of /proc/diskstats (Documentation/admin-guide/iostats.rst): requests done, merged, sectors of
    512 bytes and milliseconds, of reads, writes, discards and flushes."""

    name: str
    reads: int
    read_merges: int
    read_sectors: int
    read_ms: int
    writes: int
    write_merges: int
    write_sectors: int
    write_ms: int
    in_flight: int
    busy_ms: int
    """Milliseconds in which any request was in flight."""
    queue_ms: int
    """The same, multiplied by the number of requests in flight."""
    discards: int
    discard_merges: int
    discard_sectors: int
    discard_ms: int
    flushes: int
    flush_ms: int

    @property
    def requests(self) -> int:
        """All requests done."""
        return self.reads + self.writes + self.discards


def parse_diskstat(line: bytes) -> DiskStat:
    """One line: major, minor, name, counters. Raises ParseError."""
    fields = line.split()
    try:
        numbers = [int(field) for field in fields[3:20]]
        if len(numbers) < 11:
            raise ValueError
        return DiskStat(text(fields[2]), *numbers, *[0] * (17 - len(numbers)))
    except (ValueError, IndexError):
        raise ParseError(f"not in the form of /proc/diskstats: {line[:60]!r}") from None


class Interrupt(NamedTuple):
    """One line of /proc/interrupts or /proc/softirqs. `counts`: since boot, by the numbers of CPUs; empty if
    it is counted for the whole machine (`total`). `what`: the rest of the line, its words separated by one
    blank."""

    name: str
    counts: dict[int, int]
    total: int
    what: str


def parse_interrupts(data: bytes) -> list[Interrupt]:
    """/proc/interrupts (kernel/irq/proc.c, arch/x86/kernel/irq.c) or /proc/softirqs. Raises ParseError."""
    heading, *lines = map(text, split_lines(data) or [b""])
    try:
        cpus = [int(word.removeprefix("CPU")) for word in heading.split()]
        if not cpus:
            raise ValueError
        found = []
        for line in lines:
            name, colon, rest = line.partition(":")
            if not colon:
                raise ValueError
            words = rest.split()
            numbers = [int(word) for word in itertools.takewhile(str.isdecimal, words[: len(cpus)])]
            counts = {} if name.strip() in _OF_WHOLE_MACHINE else dict(zip(cpus, numbers, strict=True))
            found.append(Interrupt(name.strip(), counts, sum(numbers), " ".join(words[len(numbers) :])))
        return found
    except ValueError:
        raise ParseError(f"not in the form of /proc/interrupts: {data[:40]!r}") from None
