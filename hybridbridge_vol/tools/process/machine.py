"""What all rows of ps share: the machine's amounts of memory and time, and its terminals."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import USER_HZ, TtyDriver, parse_tty_drivers, tty_name
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import attempt, parsed

if TYPE_CHECKING:
    from hybridbridge_vol.tools.file_system.accounts import Accounts


class Machine:
    """The kernel, and what it reports about the whole machine."""

    def __init__(self, kernel: GuestKernel) -> None:
        self.kernel = kernel
        info = attempt("sysinfo", kernel.system.sysinfo)
        self.memory = info if isinstance(info, Unavailable) else info.totalram * info.mem_unit
        """Bytes of RAM that the guest's kernel manages."""
        self.uptime = attempt("clock_gettime", kernel.clocks.boottime)
        self._ttys: dict[int, str] = {}
        self.booted = self._booted()
        """Seconds since the epoch."""

    def _booted(self) -> float | Unavailable:
        now = attempt("clock_gettime", self.kernel.clocks.realtime)
        if isinstance(now, Unavailable) or isinstance(self.uptime, Unavailable):
            return now if isinstance(now, Unavailable) else self.uptime
        return now - self.uptime

    def lived(self, starttime: int) -> float | Unavailable:
        """Seconds since the tick `starttime`, in whole ticks, as procps 4 counts them: from /proc/uptime,
        which has two decimals, and whose product with 100 is cut (library/pids.c, `boot_tics`); then from
        ticks to seconds and back, cut again, which makes 28 of 29 (`TIME_ELAPSED`; src/ps/output.c,
        `pr_pcpu`)."""
        if isinstance(self.uptime, Unavailable):
            return self.uptime
        hundredths = round(self.uptime * 1_000_000) // (1_000_000 // USER_HZ)
        return _there_and_back(_there_and_back(hundredths) - starttime) / USER_HZ

    @cached_property
    def accounts(self) -> Accounts:
        """Names of users and groups."""
        from hybridbridge_vol.tools.file_system.accounts import Accounts  # for `-o user` alone

        return Accounts(self.kernel.files)

    def tty(self, tty_nr: int) -> str:
        """The terminal's name: where it is not a well-known one, as the kernel has named its device in /sys;
        of a device that is gone by its driver."""
        if tty_nr not in self._ttys:
            name = tty_name(tty_nr)
            if ":" in name:
                link = attempt("sysfs", lambda: self.kernel.files.readlink(f"/sys/dev/char/{name}"))
                if isinstance(link, str) and "/tty/" in link:
                    name = link.rpartition("/")[2].replace("!", "/")
                else:
                    name = tty_name(tty_nr, self._tty_drivers)
            self._ttys[tty_nr] = name
        return self._ttys[tty_nr]

    @cached_property
    def _tty_drivers(self) -> tuple[TtyDriver, ...]:
        drivers = parsed(self.kernel.files, "/proc/tty/drivers", parse_tty_drivers)
        return () if isinstance(drivers, Unavailable) else drivers


def _there_and_back(ticks: int) -> int:
    """Ticks, as they are after they were seconds for a while."""
    return int(ticks / USER_HZ * USER_HZ)


def percent(part: float, whole: float | Unavailable) -> Cell:
    """A share in percent; 0 of nothing. Cut after one decimal, as ps does (procps 4, src/ps/output.c,
    `pr_pmem`, `pr_pcpu`)."""
    if isinstance(whole, Unavailable):
        return whole
    return int(round(1000 * part / whole, 11)) / 10 if whole > 0 else 0.0
