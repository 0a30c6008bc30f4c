"""free, mpstat, iostat, vmstat, pidstat and dmesg, held to what guests and this machine's own tools say."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_files import Answers, LiveFiles
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import OptionError, ParseError
from hybridbridge_vol.procfs.counters import (
    parse_diskstat,
    parse_kernel_stat,
    parse_meminfo,
    parse_vmstat,
)
from hybridbridge_vol.procfs.kernel_log import parse_log
from hybridbridge_vol.procfs.pid import parse_io, parse_schedstat
from hybridbridge_vol.toolkit.cells import Unavailable, as_text
from hybridbridge_vol.tools.free import human
from hybridbridge_vol.tools.mpstat import chosen_cpus

Lab = Any


def ask(kernel: Any, name: str, **given_options: Any) -> list[dict[str, Any]]:
    """A tool's rows by the names of its columns."""
    tool = tools.load(name)
    options = tool.defaults() | given_options
    names = [column.name for column in tool.columns_for(options)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(kernel, options)]


def heads(text: str, first: str) -> list[str]:
    """The words of the line of headings that holds `first`, without a time of day."""
    line = next(line for line in text.splitlines() if first in line.split())
    return [word for word in line.split() if not re.fullmatch(r"\d\d:\d\d:\d\d", word)]


# --- against the files of the freeze ----------------------------------------------------------------------


MOVES = 8 << 10
"""KiB: what a guest may free or take between its last reading and the capture, if it is slow."""


def test_free_is_the_memory_at_capture_time(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    memory = {
        line.split(":")[0]: int(line.split()[1])
        for line in truth.file("/proc/meminfo").decode().splitlines()
        if "kB" in line
    }
    mem, swap = ask(session, "free")
    assert mem["TOTAL"] == memory["MemTotal"] == int(truth.command("free").split("Mem:")[1].split()[0])
    assert mem["FREE"] == pytest.approx(memory["MemFree"], abs=MOVES)
    assert mem["SHARED"] == memory["Shmem"]
    cached = memory["Buffers"] + memory["Cached"] + memory["SReclaimable"]
    assert mem["BUFF/CACHE"] == pytest.approx(cached, abs=MOVES)
    assert mem["AVAILABLE"] == pytest.approx(memory["MemAvailable"], abs=MOVES)
    assert (swap["TOTAL"], swap["USED"]) == (memory["SwapTotal"], memory["SwapTotal"] - memory["SwapFree"])
    (in_bytes, _swap) = ask(session, "free", bytes=True)
    assert in_bytes["TOTAL"] == memory["MemTotal"] * 1024
    (wide, _swap) = ask(session, "free", wide=True)
    assert wide["BUFFERS"] + wide["CACHE"] == mem["BUFF/CACHE"]


def test_mpstat_has_the_native_columns_and_the_ticks_at_capture_time(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    rows = ask(session, "mpstat")
    native = heads(truth.command("mpstat -P ALL"), "CPU")
    assert [name.lower() for name in rows[0]] == [name.lower() for name in native]
    assert [row["CPU"] for row in rows] == ["all", *map(str, range(lab.sample(rich_generation).meta["cpus"]))]
    line = next(line for line in truth.file("/proc/stat").decode().splitlines() if line.startswith("cpu0 "))
    user, nice, system, idle, iowait, irq, soft, steal, *_rest = map(int, line.split()[1:])
    whole = user + nice + system + idle + iowait + irq + soft + steal
    for name, ticks in (("%USR", user), ("%SYS", system), ("%SOFT", soft), ("%IDLE", idle)):
        assert rows[1][name] == pytest.approx(
            100 * ticks / whole, abs=1
        )  # some ticks went by until the freeze
    assert sum(value for name, value in rows[0].items() if name != "CPU") == pytest.approx(100)
    assert ask(session, "mpstat", cpu=(0,)) == [rows[1]]


def test_iostat_has_the_native_columns_and_every_disk(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    native = heads(truth.command("iostat -x"), "Device")
    rows = ask(session, "iostat", extended=True, all=True)
    assert [name.lower() for name in rows[0]] == [name.lower() for name in native]
    assert [row["DEVICE"] for row in rows] == [
        line.split()[2] for line in truth.file("/proc/diskstats").decode().splitlines()
    ]
    assert [name.lower() for name in ask(session, "iostat", all=True)[0]] == [
        name.lower() for name in heads(truth.command("iostat"), "Device")
    ]
    (cpus,) = ask(session, "iostat", processors=True)
    assert sum(cpus.values()) == pytest.approx(100, abs=0.5)


def test_vmstat_shows_the_counters_at_capture_time(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    (row,) = ask(session, "vmstat")
    native = [name.upper().replace("IN", "INTR") for name in heads(truth.command("vmstat"), "swpd")]
    assert list(row) == [name for name in native if name != "GU"]
    free = re.search(rb"MemFree: +(\d+)", truth.file("/proc/meminfo"))
    assert free is not None
    assert row["FREE"] == pytest.approx(int(free[1]), abs=MOVES)
    assert row["US"] + row["SY"] + row["ID"] + row["WA"] + row["ST"] == pytest.approx(100, abs=2)
    counts = {row["WHAT"]: row["VALUE"] for row in ask(session, "vmstat", counters=True)}
    words = {" ".join(line.split()[1:]) for line in truth.command("vmstat -s").splitlines()}
    assert len(counts.keys() & words) > 20
    stat = truth.file("/proc/stat").decode()
    assert counts["forks"] == int(stat.split("processes ")[1].split()[0])
    assert counts["boot time"] == int(stat.split("btime ")[1].split()[0])


def test_pidstat_is_what_each_process_used(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    rows = {row["PID"]: row for row in ask(session, "pidstat")}
    assert sorted(rows) == truth.processes
    native = heads(truth.command("pidstat"), "%usr")
    assert [name.lower() for name in rows[1]] == [name.lower() for name in native]
    seconds = float(truth.file("/proc/uptime").split()[0])
    for pid, row in rows.items():
        data = truth.file(f"/proc/{pid}/stat")
        fields = data[data.rindex(b")") + 2 :].split()
        assert row["%SYSTEM"] == pytest.approx(int(fields[12]) / seconds, rel=0.02, abs=0.01)
        assert row["CPU"] == int(fields[36])
        assert row["COMMAND"] == data[data.index(b"(") + 1 : data.rindex(b")")].decode()
    memory = {row["PID"]: row for row in ask(session, "pidstat", memory=True, pid=(1,))}
    status = truth.file("/proc/1/status").decode()
    assert memory[1]["VSZ"] == int(status.split("VmSize:")[1].split()[0])
    assert ask(session, "pidstat", io=True, pid=(1,))[0]["COMMAND"] == rows[1]["COMMAND"]


def test_pidstat_counts_threads_and_open_files_and_measures_stacks(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    tables = {row["PID"]: row for row in ask(session, "pidstat", tables=True)}
    assert list(tables[1]) == ["UID", "PID", "THREADS", "FD-NR", "COMMAND"]
    for pid, row in tables.items():
        assert row["THREADS"] == int(truth.file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[17])
        links = [path for path in truth.links if path.startswith(f"/proc/{pid}/fd/")]
        if links:
            assert row["FD-NR"] == len(links)
    (stack,) = ask(session, "pidstat", stack=True, pid=(1,))
    smaps = truth.file("/proc/1/smaps").decode().split("[stack]")[1]
    assert [stack["STKSIZE"], stack["STKREF"]] == [
        int(smaps.split(f"{key}:")[1].split()[0]) for key in ("Size", "Referenced")
    ]
    kernel_thread = ask(session, "pidstat", stack=True, pid=(2,))[0]
    assert [kernel_thread["STKSIZE"], kernel_thread["STKREF"]] == [0, 0]


def test_dmesg_is_the_guest_s_log(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    rows = ask(session, "dmesg")
    said = [line for line in truth.command("dmesg -x").splitlines() if line]
    mine = [
        f"{row['FACILITY']:<6}:{row['LEVEL']:<6}: [{float(row['SECONDS']):12.6f}] {row['MESSAGE']}"
        for row in rows
    ]
    assert len(mine) >= len(said)
    for native, own, row in zip(
        said, mine, rows, strict=False
    ):  # the command indents a message's further lines
        assert native == own or native.strip() == row["MESSAGE"].strip()
    booted = truth.times["realtime"] - truth.times["boottime"]
    assert rows[0]["WHEN"] == pytest.approx(booted, abs=0.1)
    errors = ask(session, "dmesg", level=("notice", "warn"))
    assert {row["LEVEL"] for row in errors} == {"notice", "warn"}
    assert ask(session, "dmesg", facility=("mail",)) == []
    with pytest.raises(OptionError, match="loud: not one of"):
        ask(session, "dmesg", level=("loud",))


# --- against this machine ---------------------------------------------------------------------------------


def test_free_and_vmstat_of_this_machine_are_procps_own() -> None:
    mem, swap = ask(LiveKernel(), "free")
    said = subprocess.run(["free"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert mem["TOTAL"] == int(said[1].split()[1])
    assert swap["TOTAL"] == int(said[2].split()[1])
    (row,) = ask(LiveKernel(), "vmstat")
    numbers = (
        subprocess.run(["vmstat"], capture_output=True, text=True, check=True).stdout.splitlines()[2].split()
    )
    assert abs(row["ID"] - int(numbers[14])) <= 1


def test_a_process_that_cannot_be_read_has_a_row_with_the_reason() -> None:
    (row,) = ask(LiveKernel({"/proc/1/stat": PermissionError(13, "Permission denied")}), "pidstat", pid=(1,))
    assert row["%CPU"] == Unavailable("/proc/1/stat: Permission denied")


# --- files of a guest, and what sysstat 12.6 and procps 4.0.2 printed of these ----------------------------

STILL: dict[str, bytes | Exception] = {
    "/proc/uptime": b"34.37 14.07\n",
    "/proc/diskstats": b"   7       0 loop0 6 0 1969 64 1 10 88 14 0 48 79 0 0 0 0 0 0\n"
    b" 259       0 loop0p1 1 0 8 22 1 10 88 14 0 16 37 0 0 0 0 0 0\n"
    b"   7       1 loop1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
    "/proc/14/stat": b"14 (ksoftirqd/0) S 2 0 0 0 -1 69238848 0 0 0 0 0 35 0 0 20 0 1 0 48 0 0 "
    b"18446744073709551615 0 0 0 0 0 0 0 2147483647 0 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
    "/proc/14/schedstat": b"352328137 293661728 239\n",
    "/proc/14/status": b"Name:\tksoftirqd/0\nTgid:\t14\nUid:\t7\t0\t0\t0\nGid:\t0\t0\t0\t0\n",
}


class StillFiles(LiveFiles):
    """Those files, and a disk whose partition /sys/block has not."""

    def listdir(self, path: str) -> list[str]:
        assert path == "/sys/block"
        return ["loop0", "loop1"]


class StillKernel(LiveKernel):
    """A kernel with those files."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self.files = StillFiles(answers)


def printed(kernel: Any, name: str, **options: Any) -> list[str]:
    """Rows as they are shown."""
    tool = tools.load(name)
    given = tool.defaults() | options
    columns = tool.columns_for(given)
    return [
        " ".join(as_text(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True))
        for row in tool.rows(kernel, given)
    ]


def test_iostat_shows_whole_disks_and_counts_half_kilobytes() -> None:
    kernel = StillKernel(STILL)
    assert printed(kernel, "iostat") == ["loop0 0.20 28.64 1.28 0.00 984 44 0"]
    assert printed(kernel, "iostat", extended=True) == [
        "loop0 0.17 28.64 0.00 0.00 10.67 164.08 0.03 1.28 0.29 90.91 14.00 44.00" + " 0.00" * 9 + " 0.14"
    ]
    assert [line.split()[0] for line in printed(kernel, "iostat", all=True)] == ["loop0", "loop0p1", "loop1"]
    assert [line.split()[0] for line in printed(kernel, "iostat", disk=("loop0p1",))] == ["loop0p1"]


def test_iostat_shows_all_where_whole_disks_are_not_known() -> None:
    kernel = LiveKernel({**STILL, "listdir /sys/block": PermissionError(13, "Permission denied")})
    assert [line.split()[0] for line in printed(kernel, "iostat")] == ["loop0", "loop0p1"]


def test_pidstat_counts_waiting_in_ticks_and_shows_the_real_user() -> None:
    assert printed(StillKernel(STILL), "pidstat", pid=(14,)) == [
        "7 14 0.00 1.02 0.00 0.84 1.02 0 ksoftirqd/0"
    ]


def test_vmstat_takes_the_time_of_guests_from_that_of_users() -> None:
    kernel = LiveKernel(
        {"/proc/stat": b"cpu  50 10 20 20 0 0 0 0 30 10\ncpu0 50 10 20 20 0 0 0 0 30 10\nintr 5\nctxt 6\n"}
    )
    (row,) = ask(kernel, "vmstat")
    assert (row["US"], row["SY"], row["ID"]) == (20, 20, 20)
    counts = {row["WHAT"]: row["VALUE"] for row in ask(kernel, "vmstat", counters=True)}
    assert (counts["non-nice user cpu ticks"], counts["non-nice guest cpu ticks"]) == (50, 30)


def test_free_does_not_show_more_available_than_there_is() -> None:
    """As procps: the host's amount in a container, or none at all in old kernels."""
    for line in (b"MemAvailable: 900 kB\n", b""):
        (mem, _swap) = ask(
            LiveKernel({"/proc/meminfo": b"MemTotal:  100 kB\nMemFree:  30 kB\n" + line}), "free"
        )
        assert (mem["AVAILABLE"], mem["USED"]) == (30, 70)


# --- formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0B"), (999, "999B"), (1023, "1.0Ki"), (1536, "1.5Ki"), (960 << 10, "960Ki"), (1010 << 10, "1.0Mi"),
     (9990 << 10, "9.8Mi"), (10230 << 10, "9Mi"), (3 << 30, "3.0Gi"), (40 << 40, "40Ti")],
)  # fmt: skip
def test_amounts_are_shown_in_the_unit_that_fits(number: int, text: str) -> None:
    assert human(number) == text


def test_lines_of_the_log_may_lack_a_time_or_everything() -> None:
    found = parse_log(b"cut off\n<6>[    1.500000] one\n<30>no time\n<3>[   12.000001][    T1] called\n\n")
    assert [(item.facility, item.level, item.seconds, item.message) for item in found] == [
        (None, None, None, "cut off"),
        ("kern", "info", 1.5, "one"),
        ("daemon", "info", None, "no time"),
        ("kern", "err", 12.000001, "called"),
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_log_of_lines(data: bytes) -> None:
    for item in parse_log(data):
        assert data[item.start : item.end]
        assert item.level is None or item.facility is not None


@given(st.binary(max_size=120))
def test_text_that_is_not_in_the_kernels_form_is_a_parse_error(data: bytes) -> None:
    for parse in (parse_kernel_stat, parse_meminfo, parse_vmstat, parse_diskstat, parse_io, parse_schedstat):
        try:
            parse(data)
        except ParseError as error:
            assert "\n" not in str(error)


def test_older_kernels_count_less() -> None:
    disk = parse_diskstat(b"   8       0 sda 1 2 3 4 5 6 7 8 0 9 10")
    assert (disk.reads, disk.writes, disk.queue_ms, disk.discards, disk.flushes) == (1, 5, 10, 0, 0)
    assert parse_kernel_stat(b"cpu  1 2 3 4\nctxt 5\n").total.total == 10


@pytest.mark.parametrize(
    ("words", "cpus"),
    [
        (("0",), {0}),
        (("0,2-3",), {0, 2, 3}),
        (("1", "5"), {1, 5}),
        ((1,), {1}),
        (("ALL",), set()),
        ((), set()),
    ],
)
def test_cpus_are_chosen_as_mpstat_has_it(words: tuple[str, ...], cpus: set[int]) -> None:
    assert chosen_cpus(words) == cpus


@pytest.mark.parametrize("word", ["x", "1-", "-1", "0,y", "1-z"])
def test_a_word_that_is_not_a_cpu_is_an_error(word: str) -> None:
    with pytest.raises(OptionError, match="give numbers of CPUs"):
        chosen_cpus((word,))
