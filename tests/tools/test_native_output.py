"""Tools whose numbers move against what the native tools printed of the same files, in every field."""

from __future__ import annotations

import re
from typing import Any

import pytest
from live_kernel import Answers, LiveClocks, LiveFiles, LiveKernel, LiveSystem

from hybridbridge_vol import tools
from hybridbridge_vol.guest.values import Sysinfo
from hybridbridge_vol.procfs.counters import parse_meminfo
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.cells import as_text

Lab = Any


class CopiedFiles(LiveFiles):
    """A guest's own copy of its /proc (samples/guest/still.sh)."""

    def read(self, path: str) -> bytes:
        if path not in self.answers:
            raise FileNotFoundError(2, "No such file or directory", path)
        return super().read(path)

    def listdir(self, path: str) -> list[str]:
        if path == "/sys/block":
            return [f"loop{number}" for number in range(8)]
        return list(
            dict.fromkeys(
                name[len(path) + 1 :].split("/")[0] for name in self.answers if name.startswith(f"{path}/")
            )
        )


class CopiedClocks(LiveClocks):
    """The clocks of those files."""

    def __init__(self, files: CopiedFiles) -> None:
        self._files = files

    def boottime(self) -> float:
        return parse_uptime(self._files.read("/proc/uptime"))[0]


class CopiedSystem(LiveSystem):
    """The memory of those files."""

    def __init__(self, files: CopiedFiles) -> None:
        self._files = files

    def sysinfo(self) -> Sysinfo:
        memory = parse_meminfo(self._files.read("/proc/meminfo"))
        return super().sysinfo()._replace(totalram=memory["MemTotal"], mem_unit=1)


class Copy(LiveKernel):
    """A kernel with those files."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        files = CopiedFiles(answers)
        self.files, self.clocks, self.system = files, CopiedClocks(files), CopiedSystem(files)


def native(text: str, first: str) -> list[list[str]]:
    """The words of a report's lines below the one that begins with `first`, without times of day."""
    lines = [
        [word for word in line.split() if not re.fullmatch(r"\d\d:\d\d:\d\d", word)]
        for line in text.splitlines()
    ]
    start = next(number for number, words in enumerate(lines) if words[:1] == [first]) + 1
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return lines[start:end]


@pytest.mark.parametrize(
    ("command", "first", "name", "options"),
    [
        ("free", "total", "free", {}),
        ("free -b", "total", "free", {"bytes": True}),
        ("free -m", "total", "free", {"mebi": True}),
        ("free -g", "total", "free", {"gibi": True}),
        ("free --kilo", "total", "free", {"kilo": True}),
        ("free --mega", "total", "free", {"mega": True}),
        ("free -h", "total", "free", {"human": True}),
        ("free -h --si", "total", "free", {"human": True, "si": True}),
        ("free -w -t -l", "total", "free", {"wide": True, "total": True, "lohi": True}),
        ("vmstat", "r", "vmstat", {}),
        ("vmstat -a", "r", "vmstat", {"active": True}),
        ("vmstat -S M", "r", "vmstat", {"unit": "M"}),
        ("vmstat -d", "total", "vmstat", {"disks": True}),
        ("vmstat -s", "", "vmstat", {"counters": True}),
        ("vmstat -D", "", "vmstat", {"disksum": True}),
        ("iostat", "Device", "iostat", {}),
        ("iostat", "avg-cpu:", "iostat", {"processors": True}),
        ("iostat -x", "Device", "iostat", {"extended": True}),
        ("iostat -m", "Device", "iostat", {"mega": True}),
        ("iostat -p ALL", "Device", "iostat", {"all": True}),
        ("iostat -xm -p ALL", "Device", "iostat", {"mega": True, "all": True, "extended": True}),
        ("iostat -k", "Device", "iostat", {}),
        ("iostat -xk", "Device", "iostat", {"extended": True}),
        ("iostat -c", "avg-cpu:", "iostat", {"processors": True}),
        ("mpstat -P ALL", "CPU", "mpstat", {}),
        ("mpstat -P 0", "CPU", "mpstat", {"cpu": ("0",)}),
        ("pidstat -p ALL", "UID", "pidstat", {}),
        ("pidstat -p ALL -dl", "UID", "pidstat", {"io": True}),
        ("pidstat -p ALL -r", "UID", "pidstat", {"memory": True}),
        ("pidstat -p ALL -w", "UID", "pidstat", {"switches": True}),
        ("pidstat -p ALL -R", "UID", "pidstat", {"priorities": True}),
        ("pidstat -p ALL -t", "UID", "pidstat", {"threads": True}),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_every_field_is_what_the_native_tool_printed(
    lab: Lab, rich_generation: str, command: str, first: str, name: str, options: dict[str, Any]
) -> None:
    files, outputs = lab.sample(rich_generation).truth.still
    rows, width = answered(files, name, options)
    said = (
        [line.split() for line in outputs[command].splitlines()]
        if not first
        else native(outputs[command], first)
    )
    if name == "pidstat":  # names and command lines may hold blanks, and the copy has no order
        rows, said = (sorted(row[: width - 1] for row in table) for table in (rows, said))
    elif name == "free":
        rows = [[cell for cell in row if cell != "-"] for row in rows]
        said = [[line[0].removesuffix(":"), *line[1:]] for line in said]
    elif command in ("vmstat -s", "vmstat -D"):
        rows = [" ".join(row).split() for row in rows]
    if command == "vmstat -D":  # which divides these by 1000
        rows = [
            [str(int(row[0]) // 1000), *row[1:]]
            if row[1] in ("inprogress", "milli") and row[-1] == "IO"
            else row
            for row in rows
        ]
    assert len(said) > 0
    assert rows == said


def answered(files: dict[str, bytes], name: str, options: dict[str, Any]) -> tuple[list[list[str]], int]:
    """What the tool shows of these files, and how many columns it has."""
    tool = tools.load(name)
    given = {option.name: option.default for option in tool.options} | options
    columns = tool.columns_for(given)
    rows = [
        [as_text(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True)]
        for row in tool.rows(Copy(dict(files)), given)
    ]
    return rows, len(columns)


def test_interrupts_together_are_what_mpstat_printed(lab: Lab, rich_generation: str) -> None:
    files, outputs = lab.sample(rich_generation).truth.still
    rows, _width = answered(files, "mpstat", {"interrupts": "SUM"})
    assert [row[:2] for row in rows] == native(outputs["mpstat -I SUM -P ALL"], "CPU")


@pytest.mark.parametrize("kind", ["CPU", "SCPU"])
def test_each_interrupt_on_each_cpu_is_what_mpstat_printed(lab: Lab, rich_generation: str, kind: str) -> None:
    files, outputs = lab.sample(rich_generation).truth.still
    heading, *lines = (
        line.split()[1:] for line in outputs[f"mpstat -I {kind} -P ALL"].splitlines()[2:] if line.strip()
    )
    names = [name.removesuffix("/s") for name in heading[1:]]
    said = {(line[0], name): rate for line in lines for name, rate in zip(names, line[1:], strict=True)}
    rows, _width = answered(files, "mpstat", {"interrupts": kind})
    assert {(row[0], row[1]): row[2] for row in rows if row[0] != "-"} == {
        key: rate for key, rate in said.items() if key[1] not in ("ERR", "MIS")
    }


def test_uptime_and_the_load(lab: Lab, rich_generation: str) -> None:
    files, outputs = lab.sample(rich_generation).truth.still
    ((_now, up, _booted, *load, _running, _threads),), _width = answered(files, "uptime", {})
    assert outputs["uptime"].split("load average: ")[1].split() == [f"{load[0]},", f"{load[1]},", load[2]]
    hours, minutes, _seconds = map(int, up.split(":"))
    assert re.search(r"up +(?:(\d+) min|(\d+):(\d+)),", outputs["uptime"])
    assert outputs["uptime -p"] == f"up {minutes} minute{'s' * (minutes != 1)}\n"
    assert hours == 0


@pytest.mark.parametrize("threads", [False, True], ids=["processes", "threads"])
def test_what_processes_used(lab: Lab, rich_generation: str, threads: bool) -> None:
    """Shares and times, which go on after ps has read them."""
    files, outputs = lab.sample(rich_generation).truth.still
    columns = f"pid,{'tid,' * threads}pcpu,cputimes,etimes,pmem,rss,vsz,min_flt,maj_flt,psr"
    said = {
        tuple(line.split()[:-1]) for line in outputs[f"ps -e{'L' * threads} -o {columns},s"].splitlines()[1:]
    }
    rows, _width = answered(files, "ps", {"columns": columns, "threads": threads})
    # the copies of a process's file and of its first thread's, made one after the other, may differ; ps takes
    # either
    ours = {
        tuple(row)
        for row in rows
        if not threads
        or row[0] != row[1]
        or files[f"/proc/{row[0]}/stat"] == files[f"/proc/{row[0]}/task/{row[0]}/stat"]
    }
    assert len(ours) > 40
    assert ours <= said


def test_counters_of_protocols(lab: Lab, rich_generation: str) -> None:
    """netstat has words for them and leaves some out: what it shows must stand in ours, in its order."""
    files, outputs = lab.sample(rich_generation).truth.still
    rows, _width = answered(files, "netstat", {"statistics": True})
    sections = re.split(r"^(\w+):\n", outputs["netstat -s"], flags=re.MULTILINE)[1:]
    compared = 0
    for protocol, text in zip(sections[::2], sections[1::2], strict=True):
        ours = iter(value for name, _counter, value in rows if name == protocol)
        for number in re.findall(r"(?:^ +|: )(\d+)\b", text, re.MULTILINE):
            compared += 1
            assert number in ours, (protocol, number)
    assert compared > 40


def test_counters_of_interfaces(lab: Lab, rich_generation: str) -> None:
    truth = lab.sample(rich_generation).truth
    files, outputs = truth.still
    kept = {
        path: reading.data
        for path, reading in truth.late.items()
        if path.startswith("/sys/class/net") and not reading.errno
    }
    rows, _width = answered(files | kept, "netstat", {"interfaces": True})
    said = sorted(native(outputs["netstat -i"], "Iface"))
    assert [line[0] for line in said] == sorted(row[0] for row in rows)
    for ours, theirs in zip(sorted(rows), said, strict=True):
        # what was not recorded of an interface below /sys cannot be compared
        assert [b if a == "-" else a for a, b in zip(ours, theirs, strict=True)] == theirs
    assert sum("-" not in row for row in rows) >= 2
