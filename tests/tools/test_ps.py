"""`ps` against procps, on the machine the tests run on, and against files a hostile guest might show."""

from __future__ import annotations

import calendar
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from errno import ESRCH
from pathlib import Path
from typing import Any

import pytest
from live_kernel import LiveClocks, LiveKernel, LiveSystem

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.ps import TOOL

PR_SET_NAME = 15
HOSTILE_NAME = "a) R 1 (\n\x1b[31m"

CHILD = f"""
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
libc.prctl({PR_SET_NAME}, {HOSTILE_NAME!r}.encode())
os.nice(5)
libc.mlockall(1)
os.setsid()
if os.fork() == 0:
    os._exit(0)
print("ready", flush=True)
time.sleep(1000)
"""


def ask(kernel: LiveKernel | None = None, **options: Any) -> list[dict[str, Any]]:
    """The rows of `ps` as dictionaries, with their depth."""
    chosen = TOOL.defaults() | options
    names = [column.name for column in TOOL.columns_for(chosen)]
    rows: list[Row] = list(TOOL.rows(kernel or LiveKernel(), chosen))
    return [dict(zip(names, row.cells, strict=True)) | {"depth": row.depth} for row in rows]


def procps(field: str, *options: str) -> dict[int, str]:
    """What `ps` says of one field, by process id; unlimited width."""
    command = ["ps", "-ww", *(options or ("-e",)), "-o", "pid=", "-o", f"{field}="]
    lines = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C.UTF-8", "TZ": "UTC"},
    ).stdout.splitlines()
    pairs = [line.strip().partition(" ") for line in lines]
    return {int(pid): value.strip() for pid, _, value in pairs}


@pytest.fixture(scope="module")
def believable() -> Iterator[dict[str, int]]:
    """Processes of every kind that `ps` must tell apart."""
    odd = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert odd.stdout is not None
    assert odd.stdout.readline() == "ready\n"
    stopped = subprocess.Popen(["sleep", "1000"])
    stopped.send_signal(signal.SIGSTOP)
    spaced = subprocess.Popen(["/bin/sh", "-c", "read x # a  long\tline", "", "last"], stdin=subprocess.PIPE)
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    time.sleep(0.2)
    zombie = next(pid for pid, parent in procps("ppid").items() if int(parent) == odd.pid)
    try:
        yield {
            "odd": odd.pid,
            "stopped": stopped.pid,
            "spaced": spaced.pid,
            "zombie": zombie,
            "self": os.getpid(),
        }
    finally:
        release.set()
        thread.join()
        for process in (odd, stopped, spaced):
            process.kill()
            process.communicate()


def test_the_processes_are_those_of_procps(believable: dict[str, int]) -> None:
    before, seen, after = procps("pid").keys(), {row["PID"] for row in ask()}, procps("pid").keys()
    assert before & after <= seen
    assert set(believable.values()) <= seen


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("ppid", "PPID"),
        ("euid", "UID"),
        ("tty", "TTY"),
        ("stat", "STAT"),
        ("nlwp", "NLWP"),
        ("vsz", "VSZ"),
        ("rss", "RSS"),
    ],
)
def test_a_field_is_what_procps_says(believable: dict[str, int], field: str, column: str) -> None:
    before, seen, after = procps(field), {row["PID"]: row[column] for row in ask()}, procps(field)
    steady = [pid for pid, value in before.items() if after.get(pid) == value and pid in seen]
    assert len(steady) > len(seen) / 2
    own = {pid for name, pid in believable.items() if name != "self"}
    assert own <= set(steady)
    for pid in own:
        assert str(seen[pid]) == before[pid]
    # A process that changed and changed back between the readings is no error of ours: allow a few others.
    others = [pid for pid in steady if str(seen[pid]) != before[pid]]
    assert len(others) <= 2, {pid: (before[pid], seen[pid]) for pid in others}


def test_names_and_command_lines_are_those_of_procps(believable: dict[str, int]) -> None:
    before = procps("comm"), procps("args")
    rows = {row["PID"]: row for row in ask()}
    after = procps("comm"), procps("args")
    comm, args = (
        {pid: text for pid, text in early.items() if late.get(pid) == text and pid in rows}
        for early, late in zip(before, after, strict=True)
    )
    assert {believable["stopped"], believable["spaced"], believable["self"]} <= comm.keys() & args.keys()
    differing = {}
    for pid in comm.keys() & args.keys() - {believable["odd"], believable["zombie"]}:
        row = rows[pid]
        name = row["COMM"] + (" <defunct>" if row["STAT"].startswith("Z") else "")
        command = row["CMD"].replace("\n", "?").replace("\t", "?").strip()
        if name != comm[pid] or (command.isascii() and command != args[pid]):
            differing[pid] = (name, comm[pid], command, args[pid])
    # A kernel worker's name tells the work it does, and a child's is its parent's until it executes: either
    # may have changed and changed back between the readings.  Ours are steady.
    assert not differing.keys() & set(believable.values())
    assert len(differing) <= 2, differing


def test_a_name_cannot_pose_as_fields_of_stat(believable: dict[str, int]) -> None:
    (row,) = ask(pid=(believable["odd"],))
    assert row["COMM"] == HOSTILE_NAME[:15]
    assert row["PPID"] == os.getpid()
    assert row["CMD"].endswith("time.sleep(1000)\n")


def test_flags_show_nice_locked_session_leaders_stopped_and_threads(believable: dict[str, int]) -> None:
    stat = {row["PID"]: row["STAT"] for row in ask()}
    assert {"N", "s"} <= set(stat[believable["odd"]])
    assert stat[believable["stopped"]][0] == "T"
    assert stat[believable["zombie"]][0] == "Z"
    assert "l" in stat[believable["self"]]


def test_a_zombie_is_defunct(believable: dict[str, int]) -> None:
    (row,) = ask(pid=(believable["zombie"],))
    assert row["CMD"] == f"[{row['COMM']}] <defunct>"
    assert row["PPID"] == believable["odd"]


def test_start_is_that_of_procps_but_for_its_rounding(believable: dict[str, int]) -> None:
    # procps adds the whole seconds of the boot and of the start, and so is early by up to two; the boot,
    # which both take from two clocks read one after the other, may fall on either side of a second.
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    rows = {row["PID"]: row["START"] for row in ask()}
    for pid, text in procps("lstart").items():
        if pid in rows:
            theirs = calendar.timegm(time.strptime(text, "%a %b %d %H:%M:%S %Y"))
            assert abs(int(boot) + int(rows[pid] - boot + 0.001) - theirs) <= 1


def test_shares_of_processor_and_memory_are_those_of_procps() -> None:
    """Of processes that are a minute old, and that procps says the same of before and after."""
    for field, column, within in (("%cpu", "%CPU", 1.0), ("%mem", "%MEM", 0.15)):
        before = procps(field)
        rows = {row["PID"]: row for row in ask()}
        steady = {
            pid: value
            for pid, value in procps(field).items()
            if before.get(pid) == value and pid in rows and time.time() - rows[pid]["START"] > 60
        }
        assert steady
        for pid, value in steady.items():
            assert abs(rows[pid][column] - float(value)) <= within


def test_threads_are_listed_with_their_own_ids(believable: dict[str, int]) -> None:
    rows = ask(pid=(believable["self"],), threads=True)
    assert [row["LWP"] for row in rows] == sorted(int(name) for name in os.listdir("/proc/self/task"))
    assert {row["PID"] for row in rows} == {os.getpid()}
    assert len(rows) == rows[0]["NLWP"] > 1
    assert len({row["CMD"] for row in rows}) == 1


def test_a_tree_shows_children_below_their_parent(believable: dict[str, int]) -> None:
    rows = ask(tree=True)
    place = {row["PID"]: number for number, row in enumerate(rows)}
    for name in ("odd", "stopped", "spaced"):
        row = rows[place[believable[name]]]
        assert row["depth"] == rows[place[os.getpid()]]["depth"] + 1
        assert place[os.getpid()] < place[row["PID"]]
    assert rows[place[believable["zombie"]]]["depth"] == rows[place[believable["odd"]]]["depth"] + 1


def test_only_the_processes_asked_for_are_read(believable: dict[str, int]) -> None:
    kernel = LiveKernel()
    assert [row["PID"] for row in ask(kernel, pid=(1, believable["stopped"], 1))] == [
        1,
        believable["stopped"],
    ]
    assert ("listdir", "/proc") not in kernel.files.calls


def test_a_kernel_thread_costs_one_read(believable: dict[str, int]) -> None:
    kernel = LiveKernel()
    ask(kernel, pid=(believable["zombie"],))
    assert [call for call in kernel.files.calls if call[0] == "read"] == [
        ("read", f"/proc/{believable['zombie']}/stat")
    ]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(ESRCH, os.strerror(ESRCH)), "/proc/1/stat: No such process"),
        (CallRolledBack("read", "page fault at 0xdead000"), "/proc/1/stat: page fault at 0xdead000"),
        (b"", "/proc/1/stat: not in the form of /proc/PID/stat: b''"),
        (b"1 (x) S", "/proc/1/stat: not in the form of /proc/PID/stat: b'1 (x) S'"),
    ],
)
def test_a_process_that_cannot_be_read_is_listed_with_the_reason(failure: Any, reason: str) -> None:
    first, second = ask(LiveKernel({"/proc/1/stat": failure}), pid=(1, os.getpid()))
    assert first["PID"] == 1
    assert {value for name, value in first.items() if name not in ("PID", "depth")} == {Unavailable(reason)}
    assert second["CMD"]


@pytest.mark.parametrize(("file", "column"), [("cmdline", "CMD"), ("status", "UID")])
def test_a_file_that_cannot_be_read_costs_its_own_cell_only(file: str, column: str) -> None:
    path = f"/proc/{os.getpid()}/{file}"
    (row,) = ask(LiveKernel({path: CallRolledBack("read", "budget exceeded")}), pid=(os.getpid(),))
    assert row[column] == Unavailable(f"{path}: budget exceeded")
    assert [name for name, value in row.items() if isinstance(value, Unavailable)] == [column]


def test_without_clocks_or_sysinfo_the_processes_are_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def rolled_back(_: object) -> Any:
        raise CallRolledBack("call", "page fault")

    monkeypatch.setattr(LiveSystem, "sysinfo", rolled_back)
    monkeypatch.setattr(LiveClocks, "boottime", rolled_back)
    (row,) = ask(pid=(os.getpid(),))
    missing = {name for name, value in row.items() if isinstance(value, Unavailable)}
    assert missing == {"START", "%CPU", "%MEM"}


def test_a_thread_is_not_shown_as_a_process(believable: dict[str, int]) -> None:
    other = next(int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid())
    (row,) = ask(pid=(other,))
    assert row["CMD"] == Unavailable(f"/proc/{other}: a thread of process {os.getpid()}")


def test_a_task_folder_that_cannot_be_listed_leaves_the_process(believable: dict[str, int]) -> None:
    tasks = f"/proc/{os.getpid()}/task"
    rows = ask(LiveKernel({tasks: CallRolledBack("getdents64", "loop")}), pid=(os.getpid(),), threads=True)
    assert rows[0]["CMD"]
    assert rows[1]["CMD"] == Unavailable(f"{tasks}: loop")


def test_locked_pages_are_shown() -> None:
    status = Path("/proc/self/status").read_bytes()
    locked = status.replace(b"VmLck:\t       0 kB", b"VmLck:\t       8 kB")
    assert locked != status
    (row,) = ask(LiveKernel({f"/proc/{os.getpid()}/status": locked}), pid=(os.getpid(),))
    assert "L" in row["STAT"]
