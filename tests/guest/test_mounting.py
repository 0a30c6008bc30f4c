"""The snapshot's file systems, mounted when they are needed."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.guest.session import open_session

Lab = Any


def test_what_is_not_asked_for_is_not_mounted(lab: Lab, generation: str) -> None:
    with open_session(lab.sample(generation).dump, lab.store.root) as session:
        assert session.system.uname().sysname == "Linux"
        assert session.clocks.realtime() > 0
        assert "mount" not in session.statistics.by_call
        session.files.read("/proc/1/comm")
        assert session.statistics.by_call["mount"].calls == 1
        session.files.listdir("/sys/kernel")
        assert session.statistics.by_call["mount"].calls == 2


def test_control_groups_are_those_of_the_guest(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    paths = [
        path for path in truth.late if path.startswith("/sys/fs/cgroup/") and path.endswith("cgroup.procs")
    ]
    if not paths:
        pytest.skip("a light guest has no control groups")
    assert len(paths) > 2
    for path in paths:
        if not truth.late[path].errno:
            assert session.files.read(path) == truth.file(path)


def test_mounting_does_not_change_the_guests_list_of_file_systems(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    session.files.listdir("/sys/fs/cgroup")
    assert session.files.read("/proc/filesystems") == truth.file("/proc/filesystems")


def test_mounting_control_groups_does_not_show_a_hierarchy_that_the_guest_had_not_mounted(
    lab: Lab, generation: str
) -> None:
    truth = lab.sample(generation).truth
    with open_session(lab.sample(generation).dump, lab.store.root) as session:
        session.files.listdir("/sys/fs/cgroup")
        assert session.files.read("/proc/1/cgroup") == truth.file("/proc/1/cgroup")


def test_a_control_group_that_does_not_exist_is_not_found(lab: Lab, generation: str) -> None:
    with pytest.raises(FileNotFoundError):
        lab.session(generation).files.read("/sys/fs/cgroup/no such group")
