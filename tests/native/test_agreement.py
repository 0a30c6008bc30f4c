"""Our tools and the native ones, on the same image: each field that both show is the same."""

from __future__ import annotations

import calendar
import re
import time
from pathlib import Path
from typing import Any

import pytest
from generations import NETWORK, Lab
from native_runs import Run

from hybridbridge_vol import tools
from hybridbridge_vol.toolkit.cells import as_text
from samples.compiler import compile_static

pytestmark = pytest.mark.slow
Rows = list[list[str]]
ROUNDING = 1
"""Seconds: procps takes the uptime from the time of day and rounds, we ask for the time of the boot."""
CLOCK = Path(__file__).parents[1] / "support" / "guest" / "clock.c"


def ours(lab: Lab, image: str, name: str, columns: str = "", **given: Any) -> Rows:
    """The cells of these columns (all, if none is named) as `hb run` shows them."""
    tool = tools.load(name)
    options = tool.defaults() | given
    shown = tool.columns_for(options)
    wanted = columns.split() or [column.name for column in shown]
    rows = []
    for row in tool.rows(lab.session(image), options):
        cells = {
            column.name: as_text(cell, column.kind) for column, cell in zip(shown, row.cells, strict=True)
        }
        rows.append([cells[column] for column in wanted])
    return rows


def theirs(run: Run, image: str, command: str, start: str | None = None) -> Rows:
    """The words of the lines that a native tool prints, behind the one that begins so."""
    done = run(image, command)
    assert done.status == 0 and not done.failures, done
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
    first = (
        0 if start is None else next(n for n, line in enumerate(lines) if line.lstrip().startswith(start)) + 1
    )
    return [line.split() for line in lines[first:] if line.strip()]


def seconds(moment: str) -> int:
    """Of a time as `hb run` shows it, since the epoch."""
    return calendar.timegm(time.strptime(moment, "%Y-%m-%d %H:%M:%SZ"))


def without_dashes(rows: Rows) -> Rows:
    return [[cell for cell in row if cell not in ("-", "")] for row in rows]


def test_uname_and_hostname(lab: Lab, run: Run, generation: str) -> None:
    ((system, name, release, version, machine, _domain),) = ours(lab, generation, "uname")
    said = run(generation, "uname -a").stdout.decode()
    assert said == f"{system} {name} {release} {version} {machine} GNU/Linux\n"
    assert ours(lab, generation, "hostname", "HOSTNAME") == theirs(run, generation, "hostname")


def test_arp(lab: Lab, run: Run, generation: str) -> None:
    rows = without_dashes(ours(lab, generation, "arp"))
    assert rows == theirs(run, generation, "arp -n", "Address")


def test_uptime(lab: Lab, run: Run, generation: str) -> None:
    ((booted, *load),) = ours(lab, generation, "uptime", "BOOTED LOAD1 LOAD5 LOAD15")
    (words,) = theirs(run, generation, "uptime")
    assert [word.rstrip(",") for word in words[-3:]] == load
    (moment,) = theirs(run, generation, "uptime -s")
    assert abs(seconds(" ".join(moment) + "Z") - seconds(booted)) <= ROUNDING


def test_free(lab: Lab, run: Run, generation: str) -> None:
    rows = without_dashes(ours(lab, generation, "free"))
    assert [[f"{kind}:", *rest] for kind, *rest in rows] == theirs(run, generation, "free", "total")


def test_lsmod(lab: Lab, run: Run, generation: str) -> None:
    def users(row: list[str]) -> list[str]:
        """kmod lists them as a directory of /sys does, we as the kernel does."""
        return [*row[:3], *sorted(",".join(row[3:]).split(","))]

    rows = without_dashes(ours(lab, generation, "lsmod", "MODULE SIZE USED BY"))
    assert [users(row) for row in rows] == [users(row) for row in theirs(run, generation, "lsmod", "Module")]


def test_netstat(lab: Lab, run: Run, generation: str) -> None:
    options = dict.fromkeys(("tcp", "udp", "raw", "all", "program", "numeric"), True)
    columns = "PROTO RECV-Q SEND-Q LOCAL FOREIGN STATE PID PROGRAM"
    rows = [
        [*row[:6], "-" if row[6] == "-" else f"{row[6]}/{row[7]}"]
        for row in ours(lab, generation, "netstat", columns, **options)
    ]
    seen = sorted(" ".join(filter(None, row)).replace(" - ", " ") for row in rows)
    said = sorted(" ".join(row) for row in theirs(run, generation, "netstat -tuwpan", "Proto"))
    assert len(seen) == len(said) > 3
    for one, other in zip(seen, said, strict=True):
        assert one.startswith(other), (one, other)  # netstat cuts a program's name


@pytest.mark.parametrize("image", sorted(NETWORK))
@pytest.mark.parametrize("letters", ["a", "l", ""])
def test_netstat_of_sctp(lab: Lab, run: Run, image: str, letters: str) -> None:
    """netstat prints further addresses of an end on lines of their own."""
    options = {"sctp": True, "all": letters == "a", "listening": letters == "l", "extended": True}
    columns = "PROTO RECV-Q SEND-Q LOCAL FOREIGN STATE UID INODE"
    seen = []
    for row in ours(lab, image, "netstat", columns, **options):
        proto, received, sent, local, foreign, state, uid, inode = row
        (here, port), (there, other) = (end.rpartition(":")[::2] for end in (local, foreign))
        first = [proto, received, sent, f"{here.split(',')[0]}:{port}"]
        first += [f"{there.split(',')[0]}:{other}"] if there else []
        further = [*here.split(",")[1:], *there.split(",")[1:]]
        seen.append(" ".join([*first, state, *further, uid, inode]).replace(" - - ", " "))
    text = " ".join(map(" ".join, theirs(run, image, f"netstat -{letters}neS", "Proto")))
    assert [f"sctp {row.strip()}" for row in text.split("sctp ")[1:]] == seen
    assert len(seen) >= 2


def test_vmstat(lab: Lab, run: Run, generation: str) -> None:
    assert ours(lab, generation, "vmstat") == theirs(run, generation, "vmstat", "r ")


def test_iostat_and_mpstat(lab: Lab, run: Run, generation: str) -> None:
    assert ours(lab, generation, "iostat") == theirs(run, generation, "iostat -d", "Device")
    rows = [row[1:] for row in theirs(run, generation, "mpstat -P ALL") if row[1] not in ("CPU",)][1:]
    assert ours(lab, generation, "mpstat") == rows


def test_pidstat(lab: Lab, run: Run, generation: str) -> None:
    rows = {row[1]: row for row in ours(lab, generation, "pidstat")}
    said = [row[1:] for row in theirs(run, generation, "pidstat -p ALL") if row[1] != "UID"][1:]
    assert len(said) > 20
    for row in said:
        assert rows[row[1]] == [*row[:8], " ".join(row[8:])]


def test_dmesg(lab: Lab, run: Run, generation: str) -> None:
    """dmesg reads syslog(2), which repeats the beginning of each line of a message."""
    form = re.compile(r"(\w+) *:(\w+) *: \[ *([0-9.]+)\] (.*)")
    said = [form.match(line) for line in run(generation, "dmesg -x -S").stdout.decode().splitlines()]
    levels = {"warning": "warn", "error": "err"}
    rows = ours(lab, generation, "dmesg", "FACILITY LEVEL SECONDS MESSAGE")
    seen = [(kind, levels.get(level, level), moment, line) for kind, level, moment, line in rows]
    # we escape what a terminal could obey
    assert [(*match.groups()[:3], match[4].replace("\t", "\\t")) for match in said if match] == seen


def test_ps(lab: Lab, run: Run, generation: str) -> None:
    fields = "pid,ppid,uid,tty,stat,time,%cpu,%mem,vsz,rss,nlwp,comm,args"
    columns = "PID PPID UID TTY STAT TIME %CPU %MEM VSZ RSS NLWP"
    rows = {row[0]: row for row in ours(lab, generation, "ps", columns)}
    said = theirs(run, generation, f"ps -eww -o {fields}", "PID")
    assert len(rows) == len(said)
    for row in said:
        assert rows[row[0]] == row[: len(columns.split())]
    starts = dict(ours(lab, generation, "ps", "PID START"))
    for row in theirs(run, generation, "ps -eww -o pid,lstart", "PID"):
        moment = calendar.timegm(time.strptime(" ".join(row[1:]), "%a %b %d %H:%M:%S %Y"))
        assert abs(moment - seconds(starts[row[0]])) <= ROUNDING, row


def test_gettime_and_getpid(lab: Lab, run: Run, generation: str, tmp_path: Path) -> None:
    program = tmp_path / "clock"
    program.write_bytes(compile_static(CLOCK))
    program.chmod(0o755)
    (words,) = [run(generation, "clock", tools=str(tmp_path)).stdout.decode().split()]
    real, day, seconds, up, pid = words
    clocks = {clock: moment for clock, moment in ours(lab, generation, "gettime", "CLOCK SECONDS")}
    assert real[:-3] == day == clocks["CLOCK_REALTIME"]
    assert seconds == real.partition(".")[0]
    assert up[:-3] == clocks["CLOCK_BOOTTIME"]
    running = {tgid for (tgid,) in ours(lab, generation, "getpid", "PID")}
    assert pid not in running | set(lab.session(generation).files.listdir("/proc"))
