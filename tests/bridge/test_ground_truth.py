"""What the bridge reads from a snapshot is what the guest itself read right before the capture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from fidelity import assert_faithful
from sessions import session_with

from benchmarks.fidelity import compare
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode

Lab = Any


def hb(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run hb as a command."""
    command = [sys.executable, "-m", "hybridbridge_vol", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def hb_json(lab: Lab, name: str, *tool: str) -> list[dict[str, Any]]:
    """The rows of a tool on the image of a generation."""
    done = hb("run", lab.sample(name).raw, *tool, "--store", lab.store.root, "--format", "json")
    assert done.stderr == ""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def status_field(status: bytes, name: str) -> str:
    """One field of /proc/PID/status."""
    match = re.search(rf"^{name}:\s+(\S+)".encode(), status, re.MULTILINE)
    assert match is not None
    return match[1].decode()


def test_ps_lists_the_guests_processes_with_their_names_states_parents_owners_and_commands(
    lab: Lab, generation: str
) -> None:
    truth = lab.sample(generation).truth
    rows = {row["PID"]: row for row in hb_json(lab, generation, "ps")}
    assert sorted(rows) == truth.processes
    boot = truth.times["realtime"] - truth.times["boottime"]
    for pid, row in rows.items():
        stat, status = truth.file(f"/proc/{pid}/stat"), truth.file(f"/proc/{pid}/status")
        name = stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode()
        fields = stat[stat.rindex(b")") + 2 :].split()
        assert row["COMM"] == name
        assert row["STAT"][0] == fields[0].decode()
        assert row["PPID"] == int(fields[1])
        assert row["UID"] == int(status_field(status, "Uid"))
        started = datetime.fromisoformat(row["START"]).timestamp()
        assert started == pytest.approx(boot + int(fields[19]) / 100, abs=0.1)
        command = (
            truth.file(f"/proc/{pid}/cmdline")
            .rstrip(b"\0")
            .replace(b"\0", b" ")
            .decode("utf-8", "surrogateescape")
        )
        if command:
            assert row["CMD"] == command
        else:
            assert row["CMD"].startswith(f"[{name}]")


def test_ps_shows_what_the_workload_hides(lab: Lab) -> None:
    rows = hb_json(lab, "6.1 two CPUs", "ps")
    commands = {row["CMD"] for row in rows}
    assert any(row["STAT"].startswith("Z") and "defunct" in row["CMD"] for row in rows)
    assert any(row["STAT"].startswith("T") for row in rows)
    # one runs from a memfd and poses as a kernel thread, but has memory of its own
    assert any(row["CMD"].startswith("[kworker/0:2-events]") and row["VSZ"] > 0 for row in rows)
    assert any(len(command) > 5000 for command in commands)
    assert any(row["COMM"] == "parent) S 1 (x" for row in rows)
    assert any(row["NLWP"] > 4 and row["COMM"] == "worker pool" for row in rows)


def test_the_clock_reads_the_last_tick_before_the_capture_and_stands_still(lab: Lab, generation: str) -> None:
    session, times = lab.session(generation), lab.sample(generation).truth.times
    assert session.bridge.machine.devices.tsc.step == 0  # or else the timekeeper was not found
    assert (
        session.clocks.monotonic() == session.clocks.monotonic() == pytest.approx(times["monotonic"], abs=0.1)
    )
    assert session.clocks.realtime() == pytest.approx(times["realtime"], abs=0.1)


def test_the_proxy_task_is_the_snapshots_init(lab: Lab, generation: str) -> None:
    """So /proc/self, and with it /proc/net and /proc/mounts, is always there."""
    session = lab.session(generation)
    assert session.files.readlink("/proc/self") == "1"
    assert session.files.read("/proc/self/cmdline") == session.files.read("/proc/1/cmdline")


def test_threads_are_rows_of_their_own(lab: Lab, generation: str) -> None:
    truth = lab.sample(generation).truth
    rows = hb_json(lab, generation, "ps", "--threads")
    expected = sum(int(status_field(truth.file(f"/proc/{pid}/status"), "Threads")) for pid in truth.processes)
    assert len(rows) == expected


def test_uname_is_the_guests(lab: Lab, generation: str) -> None:
    (row,) = hb_json(lab, generation, "uname")
    words = lab.sample(generation).truth.command("uname -a").split()
    assert [str(value) for value in row.values()][:3] == words[:3]
    assert set(" ".join(map(str, row.values())).split()) >= set(words) - {"GNU/Linux"}


def test_the_hostname_is_the_guests(lab: Lab, generation: str) -> None:
    (row,) = hb_json(lab, generation, "hostname")
    assert lab.sample(generation).truth.command("hostname").strip() in row.values()


def test_the_clock_stands_at_the_capture_time(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    assert session.clocks.realtime() == pytest.approx(truth.times["realtime"], abs=0.1)
    assert session.clocks.boottime() == pytest.approx(truth.times["boottime"], abs=0.1)


def test_lsmod_lists_the_guests_modules(lab: Lab, generation: str) -> None:
    said = {}
    for line in lab.sample(generation).truth.command("lsmod").splitlines()[1:]:
        name, size, used, *users = line.split()
        said[name] = (int(size), int(used), set(",".join(users).split(",")) - {""})
    rows = hb_json(lab, generation, "lsmod")
    assert {
        row["MODULE"]: (row["SIZE"], row["USED"], set((row["BY"] or "").split(",")) - {""}) for row in rows
    } == said


def test_files_of_proc_are_equal_to_the_byte(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    before = Counter(session.bridge.faults.warned)  # by what other tests have asked
    assert_faithful(compare(lab.sample(generation).truth, session))
    # no assertion of the kernel failed, of locks above all
    assert Counter(session.bridge.faults.warned) - before == Counter()


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])
def test_what_an_inotify_instance_watches_is_shown(lab: Lab, rich_generation: str, mode: Mode) -> None:
    truth = lab.sample(rich_generation).truth
    paths = [
        path
        for path in truth.late
        if "/fdinfo/" in path and not truth.late[path].errno and b"inotify wd:" in truth.file(path)
    ]
    assert paths
    with session_with(lab, rich_generation, mode) as session:
        for path in paths:
            assert truth.moved(path) or session.files.read(path) == truth.file(path)
        assert session.statistics.unattributed == {}
        assert session.statistics.unknown_instructions == {}
        assert session.rolled_back == 0
