"""Files of /proc with numbers that are drawn, in the form that the kernel writes them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

_NANOSECONDS_PER_TICK = 10_000_000
_IN_FLIGHT = 8
"""The field of a disk that counts requests under way."""
_SYSTEM, _IDLE = 2, 3
"""Columns of a cpu line of /proc/stat."""
_MEMORY = (
    "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "Active", "Inactive", "Active(anon)",
    "Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "Dirty", "Writeback",
    "AnonPages", "Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack",
    "PageTables",
)  # fmt: skip
_PAGES = ("pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "nr_free_pages")
_DISKS = ("sda", "sdb", "nvme0n1", "vda", "loop0", "sr0", "mmcblk0")


@dataclass
class RandomProc:
    """`files` of /proc by path, and the names in `folders` of /sys."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Lay the files and folders out in `folder`, whose `proc` and `sys` stand for /proc and /sys."""
        for root in ("proc", "sys"):
            (folder / root).mkdir(parents=True)
        for path, data in self.files.items():
            target = folder / path.removeprefix("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for path, names in self.folders.items():
            for name in names:
                (folder / path.removeprefix("/") / name).mkdir(parents=True, exist_ok=True)


def random_proc(seed: int, memory_bits: int = 24) -> RandomProc:
    """A machine with some CPUs, disks and processes, and less than `1 << memory_bits` KiB of memory."""
    draw = _Draw(seed)
    proc = RandomProc()
    present = draw.choice((1, 1, 2, 3, 4, 8))
    online = [0, *(cpu for cpu in range(1, present) if draw.random() < 0.8)]
    uptime = draw.amount(34) + draw.randrange(1, 100)  # in ticks; nothing divides by a clock that stands at 0
    proc.files["/proc/uptime"] = b"%d.%02d %d.00\n" % (*divmod(uptime, 100), draw.amount(30))
    loads = " ".join(f"{draw.randrange(9000) / 100:.2f}" for _ in range(3))
    proc.files["/proc/loadavg"] = f"{loads} 1/{draw.randrange(1, 900)} 700\n".encode()
    proc.files["/proc/stat"] = _stat(draw, present, online)
    proc.files["/proc/meminfo"] = _meminfo(draw, memory_bits)
    # swapped pages count to the precision of memory (see `memory_bits`)
    pages = {name: draw.amount(22 if name.startswith("pswp") else 36) for name in _PAGES}
    proc.files["/proc/vmstat"] = "".join(f"{name} {count}\n" for name, count in pages.items()).encode()
    proc.files["/proc/sys/kernel/pid_max"] = b"32768\n"
    proc.files["/proc/cpuinfo"] = b"processor\t: 0\ncpu cores\t: 1\ncore id\t\t: 0\n\n"
    disks = draw.sample(_DISKS, draw.randrange(1, 4))
    _add_disks(draw, proc, disks)
    for pid in draw.sample(range(1, 32768), draw.randrange(1, 5)):
        _add_process(draw, proc, pid)
    proc.folders["/sys/devices/system/cpu"] = [f"cpu{number}" for number in range(present)]
    proc.folders["/sys/block"] = disks
    return proc


class _Draw(random.Random):
    """Draws numbers of every size."""

    def amount(self, bits: int) -> int:
        """A number of at most so many bits, every length as likely as another."""
        return self.getrandbits(self.randint(1, bits))


def _times(nanoseconds: list[int]) -> bytes:
    return b" ".join(b"%d" % (one // _NANOSECONDS_PER_TICK) for one in nanoseconds)


def _stat(draw: _Draw, present: int, online: list[int]) -> bytes:
    """The first line has the time of CPUs that are offline too, is rounded on its own, and is summed up
    before the others are read (fs/proc/stat.c, show_stat)."""
    cpus = []
    for _ in range(present):
        times = [draw.amount(58) for _ in range(8)]
        times[_IDLE] += _NANOSECONDS_PER_TICK  # one that never ran counts as offline
        times += [draw.choice((0, draw.randint(0, times[kind]))) for kind in (0, 1)]  # of user and nice time
        cpus.append(times)
    lines = [b"cpu  " + _times([sum(column) for column in zip(*cpus, strict=True)])]
    for cpu in online:
        cpus[cpu][draw.choice((0, _SYSTEM, _IDLE))] += draw.choice((0, 1, 2)) * _NANOSECONDS_PER_TICK
        lines.append(b"cpu%d " % cpu + _times(cpus[cpu]))
    counts = " ".join(str(draw.amount(20)) for _ in range(6))
    lines += [
        f"intr {draw.amount(40)} {counts}".encode(),
        b"ctxt %d" % draw.amount(40),
        b"btime %d" % draw.randrange(1 << 30, 1 << 31),
        b"processes %d" % draw.amount(30),
        b"procs_running %d" % draw.randrange(1, 9),
        b"procs_blocked %d" % draw.randrange(9),
        b"softirq 45 0 1 2 3 4 5 6 7 8 9",
    ]
    return b"\n".join(lines) + b"\n"


def _meminfo(draw: _Draw, bits: int) -> bytes:
    total, swap = draw.amount(bits) | 4096, draw.choice((0, draw.amount(bits)))
    sizes = {"MemTotal": total}
    sizes |= {name: draw.randint(0, min(total, draw.amount(bits))) for name in _MEMORY}
    sizes |= {"SwapTotal": swap, "SwapFree": draw.randint(0, swap)}
    return "".join(f"{name + ':':<16}{size:8d} kB\n" for name, size in sizes.items()).encode()


def _add_disks(draw: _Draw, proc: RandomProc, disks: list[str]) -> None:
    """As kernels before 4.18, before 5.5 and since write them (block/genhd.c, `diskstats_show`)."""
    fields = draw.choice((11, 15, 17))
    lines = []
    for number, disk in enumerate(disks):
        parts = [f"{disk}{'p' * disk[-1].isdecimal()}{part}" for part in range(1, draw.randrange(1, 4))]
        for minor, name in enumerate((disk, *parts)):
            idle = draw.random() < 0.2
            counts = [0 if idle else draw.amount(32) for _ in range(fields)]
            counts[_IN_FLIGHT] >>= 8
            text = " ".join(map(str, counts))
            lines.append(f"{8 + number:4d} {minor:7d} {name} {text}\n")
            if not minor:
                proc.files[f"/sys/block/{name}/stat"] = f"{text}\n".encode()
    proc.files["/proc/diskstats"] = "".join(lines).encode()


def _add_process(draw: _Draw, proc: RandomProc, pid: int) -> None:
    folder = f"/proc/{pid}"
    for number in (pid, *range(pid + 1, pid + draw.randrange(1, 3))):
        _add_task(draw, proc, f"{folder}/task/{number}", number, pid)
    for name in ("stat", "status", "io", "schedstat"):
        proc.files[f"{folder}/{name}"] = proc.files[f"{folder}/task/{pid}/{name}"]
    proc.files[f"{folder}/cmdline"] = b"/usr/bin/program%d\0" % pid


def _add_task(draw: _Draw, proc: RandomProc, folder: str, tid: int, pid: int) -> None:
    user = draw.amount(32)
    faults = [draw.amount(bits) for bits in (32, 32, 24, 24)]
    times = [user, draw.amount(32), 0, 0]
    sizes = [draw.amount(20), draw.amount(40), draw.amount(24), 18446744073709551615]  # the first is a time
    scheduled = [draw.randrange(8), draw.choice((0, draw.randrange(1, 99))), draw.choice((0, 1, 2, 3, 5, 6))]
    fields = [
        tid, f"(task{tid})", "S", 1, pid, pid, 0, -1, 4194304, *faults, *times, 20, 0, 1, 0, *sizes,
        *[0] * 12, 17, *scheduled, draw.amount(20), draw.randint(0, user), 0, *[0] * 8,
    ]  # fmt: skip
    proc.files[f"{folder}/stat"] = " ".join(map(str, fields)).encode() + b"\n"
    proc.files[f"{folder}/schedstat"] = b"%d %d %d\n" % (draw.amount(50), draw.amount(50), draw.amount(20))
    status = {
        "Name": f"task{tid}", "Umask": "0022", "State": "S (sleeping)", "Tgid": pid, "Pid": tid, "PPid": 1,
        "Uid": "\t".join(str(draw.randrange(2000)) for _ in range(4)), "Gid": "0\t0\t0\t0", "Threads": 1,
        "voluntary_ctxt_switches": draw.amount(32), "nonvoluntary_ctxt_switches": draw.amount(32),
    }  # fmt: skip
    proc.files[f"{folder}/status"] = "".join(f"{name}:\t{value}\n" for name, value in status.items()).encode()
    counts = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")
    proc.files[f"{folder}/io"] = "".join(f"{name}: {draw.amount(40)}\n" for name in counts).encode()
