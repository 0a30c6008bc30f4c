"""Files that no path leads to, on real guests: removed ones, memory-only ones, System V shared memory."""

from __future__ import annotations

from typing import Any

from hybridbridge_vol.guest.kernel import GuestKernel
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
