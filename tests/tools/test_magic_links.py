"""Files that links of /proc/PID lead to, read from the snapshot's page cache; and what is refused, with its
reason."""

from __future__ import annotations

import errno
import re
from typing import Any

import pytest

from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.procfs.sources import Source
from samples.guest_files import debian_files, recipe

Lab = Any

ACTOR = "/usr/libexec/actor"


def links(lab: Lab, generation: str, pattern: str) -> dict[str, str]:
    """Paths that match to where the guest said that they lead."""
    found = lab.sample(generation).truth.links
    return {
        path: link.data.decode()
        for path, link in found.items()
        if re.fullmatch(pattern, path) and not link.errno
    }


def by_program(lab: Lab, generation: str, session: Session) -> dict[str, set[bytes]]:
    """What is read of the executables, by the name that the guest told."""
    programs: dict[str, set[bytes]] = {}
    for path, name in links(lab, generation, r"/proc/\d+/exe").items():
        programs.setdefault(name, set()).add(session.files.read(path))
    return programs


def test_executables_are_the_packages_own_and_deleted_ones_what_they_were_copied_from(
    lab: Lab, rich_generation: str
) -> None:
    session = lab.session(rich_generation)
    programs = by_program(lab, rich_generation, session)
    assert all(len(contents) == 1 for contents in programs.values())
    contents = {name: min(found) for name, found in programs.items()}
    packages = debian_files(recipe(1, light=False, processes=0))
    for name in ("/usr/bin/dash", "/usr/bin/sleep"):
        assert len(contents[name]) > 10_000
        assert contents[name] in packages
    deleted = {name: data for name, data in contents.items() if name.endswith(" (deleted)")}
    assert len(deleted) >= 2
    assert all(data in (contents["/usr/bin/sleep"], contents[ACTOR]) for data in deleted.values())
    assert session.files.read("/proc/1/comm") == lab.sample(rich_generation).truth.file("/proc/1/comm")


def test_reading_an_executable_often_takes_no_reference_away(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    first = session.files.read("/proc/1/exe")
    rolled_back = session.rolled_back
    assert first.startswith(b"\x7fELF")
    assert session.files.stat("/proc/1/exe", follow=True).size == len(first)
    for _ in range(50):
        assert session.files.read("/proc/1/exe") == first
    assert session.rolled_back == rolled_back


def test_files_that_processes_have_open_are_read_through_their_descriptors(
    lab: Lab, rich_generation: str
) -> None:
    session, truth = lab.session(rich_generation), lab.sample(rich_generation).truth
    found = links(lab, rich_generation, r"/proc/\d+/fd/\d+")
    (script,) = (path for path, name in found.items() if name == "/init" and path.startswith("/proc/1/"))
    assert session.files.read(script).startswith(b"#!/bin/sh\n")
    deleted = [path for path, name in found.items() if name.endswith("removed.log (deleted)")]
    assert deleted
    assert all(session.files.read(path) for path in deleted)
    assert session.files.read("/proc/1/comm") == truth.file("/proc/1/comm")


def test_pipes_sockets_and_devices_are_named_and_not_opened(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    rolled_back, seen = session.rolled_back, set()
    for path, name in links(lab, rich_generation, r"/proc/\d+/fd/\d+").items():
        kind = next((kind for kind in ("/dev/", "pipe:", "socket:") if name.startswith(kind)), None)
        if kind is None or name.startswith("/dev/shm/"):
            continue
        seen.add(kind)
        with pytest.raises(OSError, match="a character device|a pipe|a socket") as error:
            session.files.read(path)
        assert error.value.filename == path
    assert seen == {"/dev/", "pipe:", "socket:"}
    assert session.rolled_back == rolled_back


def test_a_name_below_a_directory_of_the_guest_is_looked_up_there(lab: Lab, rich_generation: str) -> None:
    files = lab.session(rich_generation).files
    passwd = files.read("/etc/passwd")
    assert passwd.startswith(b"root:x:0:0:")
    assert files.read("/proc/1/root/etc/passwd") == passwd
    assert files.listdir("/proc/1/root/etc/") == files.listdir("/etc")
    with pytest.raises(FileNotFoundError):
        files.read("/proc/1/root/etc/nothing")
    with pytest.raises(NotADirectoryError):
        files.read("/proc/1/root/etc/passwd/x")


def test_executables_under_taint_come_from_the_image(lab: Lab) -> None:
    with open_session(lab.sample("6.12").dump, lab.store.root, mode=Mode.SLOW) as session:
        session.answer_labels.start()
        data = session.files.read("/proc/1/exe")
        assert data == lab.session("6.12").files.read("/proc/1/exe")
        assert session.statistics.unattributed == {}
        assert session.statistics.unknown_instructions == {}
        assert session.answer_labels.of([Source("/proc/1/exe")]).ranges


def test_a_page_that_is_not_in_memory_is_an_error_that_says_so() -> None:
    for number in (errno.EIO, errno.ENOMEM):
        error = magic_links.not_cached("/proc/1/fd/4", number)
        assert error is not None
        assert error.strerror == "a part of the file is not in the guest's page cache"
        assert magic_links.not_cached("/proc/1/maps", number) is None
    assert magic_links.not_cached("/proc/1/fd/4", errno.ENOENT) is None
