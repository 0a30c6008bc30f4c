"""The statistics tools against Debian's own, each on a thousand /proc whose numbers are drawn."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from native_tools import run_on, unpack, why_not
from proc_copy import REPORTS, ProcCopy, Report
from random_proc import RandomProc, random_proc

from hybridbridge_vol import tools

CASES = 1000
LARGE = 200
"""How many more have terabytes of memory. Only free reads those: vmstat 4.0.2 computes in single precision,
which is exact up to 16 GiB."""
NAMES = sorted({report.name for report in REPORTS})


def chosen(number: int) -> list[Report]:
    """One report of each tool, in turn; of free alone where memory is large."""
    names = NAMES if number < CASES else ["free"]
    return [BY_NAME[name][number % len(BY_NAME[name])] for name in names]


BY_NAME: dict[str, list[Report]] = defaultdict(list)
for _report in REPORTS:
    BY_NAME[_report.name].append(_report)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RandomProc, dict[str, str]]]:
    """Each /proc, and what the native tools print of it by command line."""
    if reason := why_not():
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("random")
    (root / "tools").mkdir()
    unpack(root / "tools")
    procs = [random_proc(seed, 24 if seed < CASES else 40) for seed in range(CASES + LARGE)]
    cases = []
    for number, proc in enumerate(procs):
        proc.write(root / str(number))
        commands = [report.command for report in chosen(number)]
        cases.append((root / str(number), [*commands, "uptime", "uptime -p"]))
    return list(zip(procs, map(dict, run_on(root / "tools", cases)), strict=True))


def in_32_bits(cell: str) -> str:
    return str(int(cell) % (1 << 32)) if cell.isdecimal() else cell


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_reports_are_those_of_the_native_tool(
    printed: list[tuple[RandomProc, dict[str, str]]], name: str
) -> None:
    wrong, rows = [], 0
    for number, (proc, outputs) in enumerate(printed):
        for report in chosen(number):
            if report.name == name:
                ours, theirs = report.compared(proc.files, outputs[report.command], proc.folders)
                rows += len(theirs)
                if name == "vmstat" and not {"-s", "-d", "-D"} & set(report.command.split()):
                    # procps 4.0.2 computes its rates in 32 bits
                    ours = [[in_32_bits(cell) for cell in row] for row in ours]
                if ours != theirs:
                    wrong.append((number, report.command, ours, theirs))
    assert rows > CASES
    assert wrong[:1] == [], f"{len(wrong)} of {CASES}"


def test_a_thousand_times_since_boot_are_those_of_uptime(
    printed: list[tuple[RandomProc, dict[str, str]]],
) -> None:
    days = {"decade": 3650, "year": 365, "week": 7, "day": 1}
    minutes = {unit: 24 * 60 * number for unit, number in days.items()} | {"hour": 60, "minute": 1}
    for proc, outputs in printed:
        (row,) = tools.load("uptime").rows(ProcCopy(proc.files, proc.folders), {})
        up, loads = row.cells[1], row.cells[3:6]
        assert isinstance(up, float)
        said = re.findall(r"(\d+) (decade|year|week|day|hour|minute)", outputs["uptime -p"])
        assert sum(int(number) * minutes[unit] for number, unit in said) == up // 60
        assert outputs["uptime"].split("load average: ")[1].strip() == ", ".join(map(str, loads))
