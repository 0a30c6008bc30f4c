"""What descriptors lead to, asked together, is what their files say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from generations import GENERATIONS

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run import descriptor_listing, descriptor_loop
from hybridbridge_vol.guest import open_descriptors
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.struct_file import find_fields, open_own
from hybridbridge_vol.guest.values import Stat
from hybridbridge_vol.procfs.fd import FdInfo, parse_fdinfo
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.process.listing import files_of, numbers

Lab = Any
NOBODY = 4_000_000
EXPECTED = 32
"""Descriptors of a process that are asked together."""


@pytest.fixture(scope="module", params=sorted(GENERATIONS))
def session(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session of these tests alone: what failed in another one is not tried again for a while."""
    with open_session(lab.sample(request.param).dump, lab.store.root) as session:
        yield session


def listed(session: Session) -> dict[int, list[int]]:
    """The descriptors of every process, by /proc/PID/fd."""
    pids = numbers(session.files.listdir("/proc"))
    session.files.expect(files_of(pids, "fd", kind="listdir"))
    return {pid: numbers(session.files.listdir(f"/proc/{pid}/fd")) for pid in pids}


def lsof(session: Session, pids: Sequence[int] = ()) -> list[tuple[Any, ...]]:
    """The rows of lsof."""
    tool = tools.load("lsof")
    options = {item.name: item.default for item in tool.options} | {"pid": tuple(pids)}
    return [row.cells for row in tool.rows(session, options)]


def test_each_descriptor_has_the_target_and_state_that_its_files_say(session: Session) -> None:
    wanted = [(pid, fd) for pid, fds in listed(session).items() for fd in fds]
    files, said = session.files, dict[tuple[int, int], tuple[str, Stat, FdInfo]]()
    # first, so that all code is proven: a program that meets other code is rolled back
    for pid, fd in wanted:
        if fd % EXPECTED == 0:
            ahead = range(fd, fd + EXPECTED)
            files.expect(files_of([pid], *(f"fd/{number}" for number in ahead), kind="stat"))
            files.expect(files_of([pid], *(f"fd/{number}" for number in ahead), kind="readlink"))
            files.expect(files_of([pid], *(f"fdinfo/{number}" for number in ahead)))
        link = f"/proc/{pid}/fd/{fd}"
        info = parse_fdinfo(files.read(f"/proc/{pid}/fdinfo/{fd}"))
        said[pid, fd] = files.readlink(link), files.stat(link, follow=True), info
    known = files.descriptors(wanted)
    assert list(known) == wanted
    for key, (target, stat, info) in said.items():
        seen = known[key]
        assert (seen.target, seen.stat, seen.position) == (target, stat, info.position)
        assert seen.flags == info.flags & ~0o2000000  # O_CLOEXEC
        assert seen.may_be_locked or not info.lock, target
    assert len({seen.position for seen in known.values()}) > 2
    assert any(info.lock == "W" for _, _, info in said.values()) or session.bridge.kernel.release[0] == "7"
    assert files.descriptors([(1, 1000)]) == files.descriptors([(NOBODY, 0)]) == {}


def test_each_process_has_the_descriptors_that_its_folder_lists(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = listed(session)
    if not any(name in session.bridge.kernel.symbols for name in descriptor_listing.NEXT_FUNCTIONS):
        assert session.bridge.kernel.release.startswith("5.10")
        assert session.files.descriptor_numbers(expected) == {}
        return
    assert session.files.descriptor_numbers(expected) == expected
    monkeypatch.setattr(open_descriptors, "MOST_PROCESSES", 30)
    monkeypatch.setattr(descriptor_listing, "MOST_NUMBERS", 50)  # most need more than one run
    assert session.files.descriptor_numbers(expected) == expected
    assert session.files.descriptor_numbers([NOBODY]) == {}


def test_each_process_has_the_program_that_its_link_says(session: Session) -> None:
    programs = session.files.programs(listed(session))
    assert 1 in programs
    for pid, seen in programs.items():
        assert seen.target == session.files.readlink(f"/proc/{pid}/exe")
        assert seen.stat == session.files.stat(f"/proc/{pid}/exe", follow=True)
    for pid in listed(session).keys() - programs.keys():
        with pytest.raises(FileNotFoundError):
            session.files.readlink(f"/proc/{pid}/exe")


def test_lsof_shows_the_same_without_asking_together(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = [pid for pid, fds in listed(session).items() if len(fds) < 100]
    rows = lsof(session, pids)
    assert any(fd.startswith("mem") for _command, _pid, _uid, _user, fd, *_rest in rows)
    for name in ("descriptors", "descriptor_numbers", "programs"):
        monkeypatch.setattr(session.files, name, lambda _wanted: {})
    assert lsof(session, pids) == rows


def test_a_file_that_cannot_be_followed_spoils_its_own_row_only(lab: Lab) -> None:
    name = "6.1 two CPUs"
    with open_session(lab.sample(name).dump, lab.store.root, processors=1) as session:
        pids = [pid for pid, fds in listed(session).items() if len(fds) < 100]
        before = lsof(session, pids)
        session.caller.roll_back()  # the session's own descriptor holds a lock that `find_fields` takes, too
        call, bridge = session.caller.call, session.bridge
        task = call(bridge.snapshot("find_task_by_vpid"), 1) & ((1 << 64) - 1)
        file = call(bridge.snapshot("fget_task"), task, 0) & ((1 << 64) - 1)
        inode = find_fields(session.proxy, open_own(session.proxy)).inode
        bridge.machine.write_u64(file + inode, 0xFFFF_8000_DEAD_0000)
        session.caller.mark()
        rows = lsof(session, pids)
        wanted = [(pid, fd) for pid, fds in listed(session).items() if pid in pids for fd in fds]
        assert len(wanted) - len(session.files.descriptors(wanted)) < 12
    spoiled = {(row[1], row[4]) for row in rows if any(isinstance(cell, Unavailable) for cell in row[5:])}
    assert (1, "0") in {(pid, fd[:1]) for pid, fd in spoiled}
    others = [row for row in rows if (row[1], row[4]) not in spoiled]
    assert len(rows) == len(before) and len(spoiled) < 12  # those that share the file
    assert set(others) <= set(before)


def test_a_session_goes_on_after_its_own_descriptor_was_closed(lab: Lab, generation: str) -> None:
    with open_session(lab.sample(generation).dump, lab.store.root) as session:
        first = session.files.descriptors([(1, 0), (1, 1)])
        session.caller.roll_back()
        assert first and session.files.descriptors([(1, 0), (1, 1)]) == first


def test_after_many_failures_it_is_tried_again_once_more_code_is_proven(lab: Lab) -> None:
    name = "6.1 two CPUs"
    with open_session(lab.sample(name).dump, lab.store.root) as session:
        asked = open_descriptors.OpenDescriptors(session.proxy)
        first = asked.descriptors([(1, 0)])
        asked._failures["fget_task"] = open_descriptors._MOST_FAILURES
        assert first and asked.descriptors([(1, 0)]) == {}
        assert 1 in asked.programs([1])  # other programs are tried
        session.bridge.memo.text.add([(0, 1)])  # code of the boot, which nothing runs
        assert asked.descriptors([(1, 0)]) == first


def test_a_record_is_as_large_as_the_code_takes_it_to_be() -> None:
    assert descriptor_loop._RECORD_SIZE == 1024
    assert descriptor_loop._RECORD.size == 208
