"""getpid, gettime, tinyps and getprocname, held to what the guests said."""

from __future__ import annotations

import os
from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.toolkit.cells import Unavailable

Lab = Any


def ask(kernel: Any, tool: str, **options: Any) -> list[tuple[Any, ...]]:
    return [row.cells for row in tools.load(tool).rows(kernel, options)]


def test_getpid_names_the_process_that_asked_for_the_capture_and_the_others_that_ran(
    lab: Lab, generation: str
) -> None:
    """The observer stops the machine; each other CPU is idle or at a process of the guest's."""
    truth = lab.sample(generation).truth
    rows = ask(lab.session(generation), "getpid")
    observer = next(pid for pid in truth.processes if truth.file(f"/proc/{pid}/comm") == b"observer\n")
    assert [row[0] for row in rows] == list(range(lab.sample(generation).meta["cpus"]))
    assert (observer, observer, "observer") in [row[1:] for row in rows]
    for _cpu, pid, tid, comm in rows:
        assert (pid, tid, comm) == (0, 0, None) or truth.file(
            f"/proc/{pid}/task/{tid}/comm"
        ).decode() == f"{comm}\n"


def test_getpid_of_the_machine_we_run_on_is_this_process() -> None:
    ((_cpu, pid, _tid, comm),) = ask(LiveKernel(), "getpid")
    assert pid == os.getpid()
    assert comm


def test_getpid_is_the_same_under_taint(lab: Lab) -> None:
    sample = lab.sample("6.1 two CPUs")
    with open_session(sample.dump, lab.store.root, mode=Mode.SLOW) as session:
        assert ask(session, "getpid") == ask(lab.session("6.1 two CPUs"), "getpid")
        assert session.statistics.unattributed == {}


def test_gettime_shows_the_clocks_at_capture_time(lab: Lab, generation: str) -> None:
    truth = lab.sample(generation).truth
    rows = {row[0]: row for row in ask(lab.session(generation), "gettime")}
    assert float(rows["CLOCK_REALTIME"][1]) == pytest.approx(truth.times["realtime"], abs=0.1)
    assert rows["CLOCK_REALTIME"][2] == pytest.approx(truth.times["realtime"], abs=0.1)
    assert float(rows["CLOCK_BOOTTIME"][1]) == pytest.approx(truth.times["boottime"], abs=0.1)
    assert float(rows["CLOCK_MONOTONIC"][1]) <= float(rows["CLOCK_BOOTTIME"][1]) + 0.001


def test_tinyps_has_every_process_and_getprocname_any_of_them(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    names = {pid: truth.file(f"/proc/{pid}/comm").removesuffix(b"\n").decode() for pid in truth.processes}
    assert dict(ask(session, "tinyps")) == names
    assert ask(session, "getprocname", pid=1) == [(1, names[1])]
    with pytest.raises(FileNotFoundError):
        ask(session, "getprocname", pid=99999)


def test_a_name_that_cannot_be_read_is_a_cell_with_the_reason() -> None:
    ((_pid, name),) = ask(
        LiveKernel({"/proc/1/comm": PermissionError(13, "Permission denied")}), "getprocname", pid=1
    )
    assert name == Unavailable("/proc/1/comm: Permission denied")
