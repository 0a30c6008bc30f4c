"""A kernel whose files are a copy of some machine's, and what a tool of ours and a native one make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from live_files import LiveFiles
from live_kernel import LiveClocks, LiveKernel, LiveSystem

from hybridbridge_vol import tools
from hybridbridge_vol.guest.values import Sysinfo
from hybridbridge_vol.procfs.counters import parse_meminfo
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.cells import as_text

LOOP_DISKS = {"/sys/block": [f"loop{number}" for number in range(8)]}


class CopiedFiles(LiveFiles):
    """The files of the copy and no others; folders by their names in it, or as they are given."""

    def __init__(self, files: Mapping[str, bytes], folders: Mapping[str, Sequence[str]]) -> None:
        super().__init__(files)
        self._folders = folders

    def read(self, path: str) -> bytes:
        if path not in self.answers:
            raise FileNotFoundError(2, "No such file or directory", path)
        return super().read(path)

    def listdir(self, path: str) -> list[str]:
        if path in self._folders:
            return list(self._folders[path])
        start = f"{path}/"
        names = (name[len(start) :].split("/")[0] for name in self.answers if name.startswith(start))
        found = list(dict.fromkeys(names))
        if not found:
            raise FileNotFoundError(2, "No such file or directory", path)
        return found


class CopiedClocks(LiveClocks):
    """The clock that runs since boot, as the copy has it."""

    def __init__(self, files: CopiedFiles) -> None:
        self._files = files

    def boottime(self) -> float:
        return parse_uptime(self._files.read("/proc/uptime"))[0]


class CopiedSystem(LiveSystem):
    """The memory, as the copy has it."""

    def __init__(self, files: CopiedFiles) -> None:
        self._files = files

    def sysinfo(self) -> Sysinfo:
        memory = parse_meminfo(self._files.read("/proc/meminfo"))
        return super().sysinfo()._replace(totalram=memory["MemTotal"], mem_unit=1)


class ProcCopy(LiveKernel):
    """A kernel with those files."""

    def __init__(self, files: Mapping[str, bytes], folders: Mapping[str, Sequence[str]]) -> None:
        super().__init__(files)
        copied = CopiedFiles(files, folders)
        self.files, self.clocks, self.system = copied, CopiedClocks(copied), CopiedSystem(copied)


def answered(
    files: Mapping[str, bytes],
    name: str,
    options: Mapping[str, Any],
    folders: Mapping[str, Sequence[str]] = LOOP_DISKS,
) -> tuple[list[list[str]], int]:
    """The rows that the tool shows of these files, and how many columns it has."""
    tool = tools.load(name)
    given = tool.defaults() | dict(options)
    columns = tool.columns_for(given)
    rows = [
        [as_text(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True)]
        for row in tool.rows(ProcCopy(files, folders), given)
    ]
    return rows, len(columns)


def native(text: str, first: str) -> list[list[str]]:
    """The words of a report's lines below the one that begins with `first`, without times of day."""
    lines = [
        [word for word in line.split() if not re.fullmatch(r"\d\d:\d\d:\d\d", word)]
        for line in text.splitlines()
    ]
    start = next(number for number, words in enumerate(lines) if words[:1] == [first]) + 1
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return lines[start:end]


@dataclass(frozen=True)
class Report:
    """A report of a native tool, by its command line and the first word of its heading ("" if it has none),
    and the tool of ours with the options that give the same."""

    command: str
    heading: str
    name: str
    options: Mapping[str, Any]

    def compared(
        self, files: Mapping[str, bytes], printed: str, folders: Mapping[str, Sequence[str]] = LOOP_DISKS
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The words of our rows and of the native tool's lines, in one form."""
        ours, width = answered(files, self.name, self.options, folders)
        lines = [line.split() for line in printed.splitlines()]
        theirs = native(printed, self.heading) if self.heading else lines
        match self.name:
            case "pidstat":  # names and command lines may hold blanks, and the copy has no order
                return sorted(row[: width - 1] for row in ours), sorted(row[: width - 1] for row in theirs)
            case "iostat":  # it reads /sys/block, whose order is another one
                return sorted(ours), sorted(theirs)
            case "free":
                heads = [[line[0].removesuffix(":"), *line[1:]] for line in theirs]
                return [[cell for cell in row if cell != "-"] for row in ours], heads
            case "vmstat":
                return _as_vmstat_prints(self.command, ours, theirs), theirs
        return ours, theirs


def _as_vmstat_prints(command: str, ours: list[list[str]], theirs: list[list[str]]) -> list[list[str]]:
    if command == "vmstat -d":
        at = _IN_FLIGHT
        return [[*row[:at], str(int(row[at]) // 1000), *row[at + 1 :]] for row in ours]
    if command not in ("vmstat -s", "vmstat -D"):
        return ours
    words = [" ".join(row).split() for row in ours]
    if command == "vmstat -s":
        return words
    return [_divided(row, their) for row, their in zip(words, theirs, strict=True)]


_IN_FLIGHT = 9
"""The column of requests under way, which vmstat 4.0.2 divides by 1000 as it does the milliseconds."""


def _divided(row: list[str], theirs: list[str]) -> list[str]:
    """vmstat -D divides the last three of its numbers by 1000 before it adds up the disks, and names them as
    before. The row is theirs if it is that, but for the remainders."""
    if row[1] not in ("inprogress", "milli") or row[-1] != "IO":
        return row
    fits = 0 <= int(row[0]) // 1000 - int(theirs[0]) <= _MOST_DISKS
    return [theirs[0], *row[1:]] if fits else row


_MOST_DISKS = 8


REPORTS = (
    Report("free", "total", "free", {}),
    Report("free -b", "total", "free", {"bytes": True}),
    Report("free -m", "total", "free", {"mebi": True}),
    Report("free -g", "total", "free", {"gibi": True}),
    Report("free --kilo", "total", "free", {"kilo": True}),
    Report("free --mega", "total", "free", {"mega": True}),
    Report("free -h", "total", "free", {"human": True}),
    Report("free -h --si", "total", "free", {"human": True, "si": True}),
    Report("free -w -t -l", "total", "free", {"wide": True, "total": True, "lohi": True}),
    Report("vmstat", "r", "vmstat", {}),
    Report("vmstat -a", "r", "vmstat", {"active": True}),
    Report("vmstat -S M", "r", "vmstat", {"unit": "M"}),
    Report("vmstat -d", "total", "vmstat", {"disks": True}),
    Report("vmstat -s", "", "vmstat", {"counters": True}),
    Report("vmstat -D", "", "vmstat", {"disksum": True}),
    Report("iostat", "Device", "iostat", {}),
    Report("iostat", "avg-cpu:", "iostat", {"processors": True}),
    Report("iostat -x", "Device", "iostat", {"extended": True}),
    Report("iostat -m", "Device", "iostat", {"mega": True}),
    Report("iostat -p ALL", "Device", "iostat", {"all": True}),
    Report("iostat -xm -p ALL", "Device", "iostat", {"mega": True, "all": True, "extended": True}),
    Report("iostat -k", "Device", "iostat", {}),
    Report("iostat -xk", "Device", "iostat", {"extended": True}),
    Report("iostat -c", "avg-cpu:", "iostat", {"processors": True}),
    Report("mpstat -P ALL", "CPU", "mpstat", {}),
    Report("mpstat -P 0", "CPU", "mpstat", {"cpu": ("0",)}),
    Report("pidstat -p ALL", "UID", "pidstat", {}),
    Report("pidstat -p ALL -dl", "UID", "pidstat", {"io": True}),
    Report("pidstat -p ALL -r", "UID", "pidstat", {"memory": True}),
    Report("pidstat -p ALL -w", "UID", "pidstat", {"switches": True}),
    Report("pidstat -p ALL -R", "UID", "pidstat", {"priorities": True}),
    Report("pidstat -p ALL -t", "UID", "pidstat", {"threads": True}),
)
