"""Tools whose numbers move against what the native tools printed of the same files, in every field."""

from __future__ import annotations

import re
from typing import Any

import pytest
from proc_copy import REPORTS, Report, answered, native

Lab = Any

_WHOLE_PERCENT = re.compile(r"^(\d{3,})\.\d$")
"""ps shows no decimals of 100 % and more (procps 4, src/ps/output.c, `pr_pcpu`), which a process seems to
take that was started a moment ago by a machine that stands still at times."""


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: f"{report.command}, {report.heading}")
def test_every_field_is_what_the_native_tool_printed(lab: Lab, rich_generation: str, report: Report) -> None:
    files, outputs = lab.sample(rich_generation).truth.proc_copy
    ours, theirs = report.compared(files, outputs[report.command])
    assert len(theirs) > 0
    assert ours == theirs


def test_interrupts_together_are_what_mpstat_printed(lab: Lab, rich_generation: str) -> None:
    files, outputs = lab.sample(rich_generation).truth.proc_copy
    rows, _width = answered(files, "mpstat", {"interrupts": "SUM"})
    assert [row[:2] for row in rows] == native(outputs["mpstat -I SUM -P ALL"], "CPU")


@pytest.mark.parametrize("kind", ["CPU", "SCPU"])
def test_each_interrupt_on_each_cpu_is_what_mpstat_printed(lab: Lab, rich_generation: str, kind: str) -> None:
    files, outputs = lab.sample(rich_generation).truth.proc_copy
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
    files, outputs = lab.sample(rich_generation).truth.proc_copy
    ((_now, up, _booted, *load, _running, _threads),), _width = answered(files, "uptime", {})
    assert outputs["uptime"].split("load average: ")[1].split() == [f"{load[0]},", f"{load[1]},", load[2]]
    hours, minutes, _seconds = map(int, up.split(":"))
    assert re.search(r"up +(?:(\d+) min|(\d+):(\d+)),", outputs["uptime"])
    assert outputs["uptime -p"] == f"up {minutes} minute{'s' * (minutes != 1)}\n"
    assert hours == 0


@pytest.mark.parametrize("threads", [False, True], ids=["processes", "threads"])
def test_what_processes_used(lab: Lab, rich_generation: str, threads: bool) -> None:
    """Shares and times, which go on after ps has read them."""
    files, outputs = lab.sample(rich_generation).truth.proc_copy
    columns = f"pid,{'tid,' * threads}pcpu,cputimes,etimes,pmem,rss,vsz,min_flt,maj_flt,psr"
    said = {
        tuple(line.split()[:-1]) for line in outputs[f"ps -e{'L' * threads} -o {columns},s"].splitlines()[1:]
    }
    rows, _width = answered(files, "ps", {"columns": columns, "threads": threads})
    # the copies of a process's file and of its first thread's, made one after the other, may differ; ps takes
    # either
    ours = {
        tuple(_WHOLE_PERCENT.sub(r"\1", cell) for cell in row)
        for row in rows
        if not threads
        or row[0] != row[1]
        or files[f"/proc/{row[0]}/stat"] == files[f"/proc/{row[0]}/task/{row[0]}/stat"]
    }
    assert len(ours) > 40
    assert ours <= said


def test_counters_of_protocols(lab: Lab, rich_generation: str) -> None:
    """netstat has words for them and leaves some out: what it shows must stand in ours, in its order."""
    files, outputs = lab.sample(rich_generation).truth.proc_copy
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
    files, outputs = truth.proc_copy
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
