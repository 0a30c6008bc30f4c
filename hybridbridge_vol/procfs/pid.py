"""The formats of the files of /proc/PID that describe one task: `stat`, `status`, `cmdline`, `comm`, `io`,
`schedstat`.

Sources: Documentation/filesystems/proc.rst and fs/proc/array.c (Linux 5.10 to 6.12). Fields are only ever
added at the end of `stat` and as new lines of `status`, so these are read by position and by name, never by
length.

What a process chooses: its name, which `status` escapes (fs/proc/array.c, `proc_task_name`) and which in
`stat` ends at the last parenthesis; its command line, in which NUL bytes part the arguments. All else are the
kernel's numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.sources import split_lines

USER_HZ = 100
"""Ticks a second of every time in /proc/PID/stat; fixed by the x86 ABI (include/uapi/asm-generic/param.h)."""
PF_KTHREAD = 0x00200000
"""In `flags`: a kernel thread (include/linux/sched.h)."""


class PidStat(NamedTuple):
    """/proc/PID/stat, as far as tools need it. Times are in ticks of 1/`USER_HZ` s."""

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
    """Page faults that needed no disk, and those that needed one."""
    processor: int = 0
    """The CPU that it ran on last."""
    blkio_ticks: int = 0
    """Time spent waiting for disks."""
    guest_time: int = 0
    """Part of `utime` spent running a guest."""
    priority: int = 0
    """As the scheduler has it: 20 for a nice value of 0; below 0 for real-time tasks."""
    rt_priority: int = 0
    policy: int = 0
    """SCHED_NORMAL and the others of include/uapi/linux/sched.h."""

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & PF_KTHREAD)


def parse_stat(data: bytes) -> PidStat:
    """/proc/PID/stat. The name in parentheses may hold anything, including ") R 1 (" and newlines; the fields
    after it hold no parenthesis, so it ends at the last one. Raises ParseError."""
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
    """/proc/PID/status, as far as tools need it."""

    tgid: int
    """The process this task is a thread of."""
    euid: int
    egid: int
    vm_locked: int
    """Bytes locked in memory. This and the next two are 0 for a task without memory of its own."""
    vm_size: int
    """Bytes of virtual memory."""
    vm_rss: int
    """Bytes resident, summed over the CPUs; the count in `stat` may be some pages per CPU behind."""
    uid: int
    """The real user."""
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
    """/proc/PID/cmdline: the arguments, each ended by a NUL. The last NUL may be missing, and all of them
    where a process has overwritten its arguments (setproctitle). NULs at the end are padding."""
    stripped = data.rstrip(b"\0")
    return [text(argument) for argument in stripped.split(b"\0")] if stripped else []


def parse_comm(data: bytes) -> str:
    """/proc/PID/comm: the task's name, and a newline."""
    return text(data.removesuffix(b"\n"))


def parse_schedstat(data: bytes) -> int:
    """/proc/PID/schedstat: nanoseconds that the task waited for a CPU. Raises ParseError."""
    try:
        return int(data.split()[1])
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/PID/schedstat: {data[:40]!r}") from None


def parse_io(data: bytes) -> dict[str, int]:
    """/proc/PID/io (fs/proc/base.c, `do_io_accounting`): counts by name. Raises ParseError."""
    try:
        pairs = (line.split(b": ") for line in split_lines(data))
        found = {name.decode(): int(value) for name, value in pairs}
        if not found.keys() >= {"read_bytes", "write_bytes", "cancelled_write_bytes"}:
            raise ValueError
        return found
    except ValueError:
        raise ParseError(f"not in the form of /proc/PID/io: {data[:40]!r}") from None


def tty_name(tty_nr: int, drivers: tuple[TtyDriver, ...] = ()) -> str:
    """The terminal's name as `ps` shows it, `?` for none.

    `tty_nr` is new_encode_dev() of the device (include/linux/kdev_t.h). The numbers of the terminals that
    every system has are in Documentation/admin-guide/devices.txt, those of the others in /proc/tty/drivers. A
    device in neither is shown by its numbers.
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
    """/proc/tty/drivers (fs/proc/proc_tty.c): driver, device, major, minor or a range of minors, type. The
    name of a driver may hold blanks, so the fields are counted from the device on. Lines of another form are
    left out."""
    found = []
    for line in map(text, split_lines(data)):
        position = line.find(" /dev/")
        fields = line[position:].split()
        if position < 0 or len(fields) < 3:
            continue
        first, _, last = fields[2].partition("-")
        if fields[1].isdecimal() and first.isdecimal() and (last.isdecimal() or not last):
            found.append(
                TtyDriver(fields[0].removeprefix("/dev/"), int(fields[1]), int(first), int(last or first))
            )
    return tuple(found)


def text(data: bytes) -> str:
    """Bytes of the guest as text; bytes that are not UTF-8 are kept as surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")
