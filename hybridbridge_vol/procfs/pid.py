"""The formats of /proc/PID: what `stat`, `status` and `cmdline` say of one task.

Sources: Documentation/filesystems/proc.rst and fs/proc/array.c (Linux 5.10 to 6.12). Fields are only ever
added at the end of `stat` and as new lines of `status`, so both are read by place or by name and never by
length.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.errors import ParseError

USER_HZ = 100
"""Ticks a second of every time in /proc/PID/stat; fixed by the x86 ABI (include/uapi/asm-generic/param.h)."""
PF_KTHREAD = 0x00200000
"""In `flags`: a thread of the kernel's own (include/linux/sched.h)."""


class PidStat(NamedTuple):
    """/proc/PID/stat, as far as tools ask for it. Times are in ticks of 1/`USER_HZ` s."""

    pid: int
    comm: str
    """The thread's name, up to 15 bytes; for kernel threads and workers the full one, up to 63."""
    state: str
    """One letter: R S D T t Z X I P."""
    ppid: int
    pgrp: int
    session: int
    tty_nr: int
    """Device number of the controlling terminal, 0 for none (see `tty_name`)."""
    tpgid: int
    """The terminal's foreground process group, -1 for none."""
    flags: int
    utime: int
    stime: int
    nice: int
    num_threads: int
    starttime: int
    """Since boot, in the boot-time clock."""
    vsize: int
    """Bytes of virtual memory; 0 for a task with no memory of its own: a kernel thread or a zombie."""
    rss: int
    """Resident pages."""
    minflt: int = 0
    majflt: int = 0
    """Page faults that needed no disk, and that needed one."""
    processor: int = 0
    """The CPU it ran on last."""
    blkio_ticks: int = 0
    """Time waited for disks."""
    guest_time: int = 0
    """Part of `utime` spent running a guest."""
    priority: int = 0
    """As the scheduler sees it: 20 is that of a nice of 0, below 0 are the real-time ones."""
    rt_priority: int = 0
    policy: int = 0
    """SCHED_NORMAL and so on (include/uapi/linux/sched.h)."""

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & PF_KTHREAD)


def parse_stat(data: bytes) -> PidStat:
    """/proc/PID/stat. The name in parentheses may hold anything, ") R 1 (" and newlines included; the fields
    after it never hold a parenthesis, so it ends at the last one. Raises ParseError."""
    opening, closing = data.find(b" ("), data.rfind(b")")
    fields = data[closing + 1 :].split()
    if opening < 0 or closing < opening or len(fields) < 22:
        raise ParseError(f"not in the form of /proc/PID/stat: {data[:40]!r}")
    try:
        number = [int(field) for field in fields[1:22]]
        later = [int(field) for field in fields[36:41]]
        processor, rt_priority, policy, blkio_ticks, guest_time = later if len(later) == 5 else [0] * 5
        state = fields[0].decode("ascii")
        pid = int(data[:opening])
    except ValueError:
        raise ParseError(f"not in the form of /proc/PID/stat: {data[:40]!r}") from None
    return PidStat(
        pid=pid,
        comm=text(data[opening + 2 : closing]),
        state=state,
        ppid=number[0],
        pgrp=number[1],
        session=number[2],
        tty_nr=number[3],
        tpgid=number[4],
        flags=number[5],
        utime=number[10],
        stime=number[11],
        nice=number[15],
        num_threads=number[16],
        starttime=number[18],
        vsize=number[19],
        rss=number[20],
        minflt=number[6],
        majflt=number[8],
        processor=processor,
        blkio_ticks=blkio_ticks,
        guest_time=guest_time,
        priority=number[14],
        rt_priority=rt_priority,
        policy=policy,
    )


POLICIES = {0: "NORMAL", 1: "FIFO", 2: "RR", 3: "BATCH", 4: "ISO", 5: "IDLE", 6: "DEADLN", 7: "EXT"}
"""Scheduling policies by number, as sysstat calls them."""


class PidStatus(NamedTuple):
    """/proc/PID/status, as far as tools ask for it."""

    tgid: int
    """The process this task is a thread of."""
    euid: int
    egid: int
    vm_locked: int
    """Bytes locked in memory; these three are 0 also for a task with no memory of its own."""
    vm_size: int
    """Bytes of virtual memory."""
    vm_rss: int
    """Bytes resident, summed over the CPUs; the count in `stat` lags behind by some pages a CPU."""
    uid: int
    """The real one."""
    voluntary: int = 0
    involuntary: int = 0
    """Context switches."""


def parse_status(data: bytes) -> PidStatus:
    """/proc/PID/status, whose lines are `Key:\\tvalue`; a newline in the task's name is written `\\n` there.
    Raises ParseError."""
    lines = dict(line.split(b":", 1) for line in data.split(b"\n") if b":" in line)
    try:
        return PidStatus(
            tgid=int(lines[b"Tgid"]),
            euid=int(lines[b"Uid"].split()[1]),
            egid=int(lines[b"Gid"].split()[1]),
            vm_locked=_kib(lines, b"VmLck"),
            vm_size=_kib(lines, b"VmSize"),
            vm_rss=_kib(lines, b"VmRSS"),
            uid=int(lines[b"Uid"].split()[0]),
            voluntary=int(lines.get(b"voluntary_ctxt_switches", 0)),
            involuntary=int(lines.get(b"nonvoluntary_ctxt_switches", 0)),
        )
    except (KeyError, IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/PID/status: {data[:40]!r}") from None


def _kib(lines: dict[bytes, bytes], key: bytes) -> int:
    return int(lines[key].split()[0]) * 1024 if key in lines else 0


def parse_cmdline(data: bytes) -> list[str]:
    """/proc/PID/cmdline: the arguments, each ended by a NUL; the last NUL may be missing, as may all of them
    where a process has overwritten its arguments (setproctitle). Padding NULs at the end are no arguments."""
    stripped = data.rstrip(b"\0")
    return [text(argument) for argument in stripped.split(b"\0")] if stripped else []


def tty_name(tty_nr: int, drivers: tuple[TtyDriver, ...] = ()) -> str:
    """The terminal's name as `ps` shows it, `?` for none.

    `tty_nr` is new_encode_dev() of the device (include/linux/kdev_t.h). The terminals that every system has
    are numbered in Documentation/admin-guide/devices.txt; the rest are in /proc/tty/drivers, and a device in
    neither is shown by its numbers.
    """
    if tty_nr == 0:
        return "?"
    major = (tty_nr >> 8) & 0xFFF
    minor = (tty_nr & 0xFF) | ((tty_nr >> 12) & 0xFFF00)
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    if major == 5 and minor == 1:
        return "console"
    for driver in drivers:
        if driver.major == major and driver.first_minor <= minor <= driver.last_minor:
            return f"{driver.name}{minor - driver.first_minor}"
    return f"{major}:{minor}"


class TtyDriver(NamedTuple):
    """One line of /proc/tty/drivers."""

    name: str
    """The device's name without /dev/ and without its number."""
    major: int
    first_minor: int
    last_minor: int


def parse_tty_drivers(data: bytes) -> tuple[TtyDriver, ...]:
    """/proc/tty/drivers (fs/proc/proc_tty.c): driver, device, major, minor or a range of minors, type. A
    driver's name may hold spaces, so the fields are counted from the device on. Lines of another form are
    left out."""
    found = []
    for line in text(data).splitlines():
        place = line.find(" /dev/")
        fields = line[place:].split()
        if place < 0 or len(fields) < 3:
            continue
        first, _, last = fields[2].partition("-")
        if fields[1].isdecimal() and first.isdecimal() and (last.isdecimal() or not last):
            found.append(
                TtyDriver(fields[0].removeprefix("/dev/"), int(fields[1]), int(first), int(last or first))
            )
    return tuple(found)


def text(data: bytes) -> str:
    """Bytes of the guest as text; what is no UTF-8 is kept as surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")
