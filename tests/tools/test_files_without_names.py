"""Files that no path leads to, on real guests: removed ones, memory-only ones, System V shared memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.file_system.deleted import DELETED, deleted_files
from hybridbridge_vol.tools.file_system.unreached import every_file
from hybridbridge_vol.tools.file_system.walk import Entry

Lab = Any
ACTOR = "/usr/libexec/actor"


def without_names(kernel: GuestKernel) -> dict[str, Entry]:
    return {entry.shown_as: entry for entry in every_file(kernel, deleted_only=True) if entry.attributes}


def test_removed_and_memory_only_files_have_their_contents(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    found = without_names(session)
    removed = {name: entry for name, entry in found.items() if name.endswith("/removed.log")}
    assert removed
    for entry in removed.values():
        assert session.files.read(entry.path) == b"removed\n"
        assert entry.attributes is not None and entry.attributes.nlink == 0
    payload = found["/memfd:payload"]
    assert session.files.read(payload.path) == session.files.read(ACTOR)
    told = lab.sample(rich_generation).truth.links
    names = {link.data.decode().removesuffix(" (deleted)") for link in told.values() if not link.errno}
    assert {*removed, "/memfd:payload"} <= names
    assert all(entry.state.startswith("deleted") for entry in found.values() if entry.shown_as)


def test_system_v_shared_memory_is_what_the_guest_told(lab: Lab, rich_generation: str) -> None:
    """The number of a segment's inode is its id (`newseg`, ipc/shm.c)."""
    session = lab.session(rich_generation)
    found = without_names(session)
    lines = lab.sample(rich_generation).truth.file("/proc/sysvipc/shm").splitlines()[1:]
    assert lines
    for line in lines:
        key, shmid, _perms, size = line.split()[:4]
        entry = found[f"/SYSV{int(key) & 0xFFFFFFFF:08x}"]
        assert entry.attributes is not None
        assert (entry.attributes.ino, entry.attributes.size) == (int(shmid), int(size))
        assert session.files.read_range(entry.path, 0, 7) == b"shared\0"


def links_one_by_one(kernel: GuestKernel) -> Iterator[tuple[str, str]]:
    """The link of each process to its program, its descriptors and what it has mapped, and where it leads."""
    for pid in (name for name in kernel.files.listdir("/proc") if name.isdigit()):
        links = [f"/proc/{pid}/exe"]
        for folder in ("fd", "map_files"):
            with contextlib.suppress(*UNREADABLE):
                names = kernel.files.listdir(f"/proc/{pid}/{folder}")
                links += [f"/proc/{pid}/{folder}/{name}" for name in names]
        for link in links:
            with contextlib.suppress(*UNREADABLE):
                yield link, kernel.files.readlink(link)


def calls(session: Session) -> int:
    return session.statistics.by_call["readlinkat"].calls


def test_files_without_names_are_those_that_the_links_show_one_by_one(lab: Lab, rich_generation: str) -> None:
    """Each once, with the first link to it; and few links are read for that."""
    session = lab.session(rich_generation)
    list(deleted_files(session))
    before = calls(session)
    found = {entry.path: entry for entry in deleted_files(session)}
    few = calls(session) - before
    session.files.of_the_kernel.forget_expected()
    expected: dict[tuple[int, int], tuple[str, str]] = {}
    count = 0
    for link, target in links_one_by_one(session):
        count += 1
        if target.endswith(DELETED):
            seen = session.files.stat(link, follow=True)
            expected.setdefault((seen.dev, seen.ino), (link, target.removesuffix(DELETED)))
    assert {(path, entry.shown_as) for path, entry in found.items()} == set(expected.values())
    assert any("/map_files/" in path for path in found) and any("/fd/" in path for path in found)
    assert few < count / 4
