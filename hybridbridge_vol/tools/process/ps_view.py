"""What all rows of ps share: the amounts that shares and times are reckoned from, and procps's ways of
showing things."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import Sysinfo
from hybridbridge_vol.procfs.pid import USER_HZ, PidStat, TtyDriver, parse_tty_drivers, tty_name
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why


class View(NamedTuple):
    """The kernel, and what it says of the whole machine."""

    kernel: GuestKernel
    memory: float | Unavailable
    """Bytes of RAM the guest's kernel manages."""
    uptime: float | Unavailable
    booted: float | Unavailable
    """Seconds since the epoch."""
    ttys: list[tuple[TtyDriver, ...]]
    """/proc/tty/drivers, once it was needed."""

    @classmethod
    def of(cls, kernel: GuestKernel) -> View:
        """Ask for it."""
        memory = _asked("sysinfo", lambda: _ram(kernel.system.sysinfo()))
        uptime = _asked("clock_gettime", kernel.clocks.boottime)
        now = _asked("clock_gettime", kernel.clocks.realtime)
        if isinstance(now, Unavailable):
            return cls(kernel, memory, uptime, now, [])
        booted = uptime if isinstance(uptime, Unavailable) else now - uptime
        return cls(kernel, memory, uptime, booted, [])

    def lived(self, starttime: int) -> float | Unavailable:
        """Seconds since the tick `starttime`, in whole ticks, as procps counts them (library/pids.c,
        `boot_tics`): of /proc/uptime, which has two decimals, and whose product with 100 is cut."""
        if isinstance(self.uptime, Unavailable):
            return self.uptime
        hundredths = int(self.uptime * USER_HZ)
        return (int(hundredths / USER_HZ * USER_HZ) - starttime) / USER_HZ

    def tty(self, tty_nr: int) -> str:
        """The terminal's name."""
        name = tty_name(tty_nr)
        if ":" not in name:
            return name
        if not self.ttys:
            try:
                self.ttys.append(parse_tty_drivers(self.kernel.files.read("/proc/tty/drivers")))
            except UNREADABLE:
                self.ttys.append(())
        return tty_name(tty_nr, self.ttys[0])


def _asked(call: str, ask: Callable[[], float]) -> float | Unavailable:
    try:
        return ask()
    except UNREADABLE as error:
        return why(call, error)


def _ram(info: Sysinfo) -> int:
    return info.totalram * info.mem_unit


def percent(part: float, whole: float | Unavailable) -> Cell:
    """A share in percent; 0 of nothing. Cut after one decimal, as ps does (src/ps/output.c, `pr_pmem`,
    `pr_pcpu`)."""
    if isinstance(whole, Unavailable):
        return whole
    return int(1000 * part / whole) / 10 if whole > 0 else 0.0


def state_letters(pid: int, stat: PidStat, locked: bool) -> str:
    """The STAT column: the state and procps's letters, in its order."""
    return (
        stat.state
        + ("<" if stat.nice < 0 else "N" if stat.nice > 0 else "")
        + ("L" if locked else "")
        + ("s" if stat.session == pid else "")
        + ("l" if stat.num_threads > 1 else "")
        + ("+" if stat.tpgid == stat.pgrp else "")
    )
