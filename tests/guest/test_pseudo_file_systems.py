"""Pseudo file systems as the guest had them (samples/guest/pseudo_init.sh): where it had mounted them, and
where only its kernel kept them. The guest read their files before it unmounted some."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from default_run import in_default_run
from generations import Lab
from mounted import NEEDS_FUSE, mounted_image

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.objects.super_blocks import super_blocks
from hybridbridge_vol.bridge.run.statistics import Statistics
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.cross_view.control_groups import grouped_processes
from hybridbridge_vol.workflow.mount import NOT_MOUNTED
from samples.make import Sample, Spec, make_sample
from samples.pseudo_guest import FILES, MOUNTED, UNMOUNTED

KERNELS = {
    "5.10 nokaslr": "5.10-cloud",
    "6.1 two CPUs": "6.1-cloud",
    "6.12": "6.12-cloud",
    "7.x": "7-cloud",
}
"""By the sample that shares its kernel, which is trusted already."""
_OWN = re.compile("/sys/kernel/security/tomoyo/self_domain")
"""TOMOYO has no domain for the proxy task."""
_COUNTED = re.compile("/sys/fs/cgroup/.*/memory[.].*stat|/sys/kernel/debug/(bdi|extfrag)/.*")
"""Counters of which each CPU holds a part back for a while, limits that follow from them, and free memory."""


@pytest.fixture(scope="module", params=in_default_run(KERNELS, "6.1 two CPUs"))
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sample(generation: str, lab: Lab) -> Sample:
    lab.sample(generation)
    return make_sample(Spec(KERNELS[generation], light=True, pseudo=True))


@pytest.fixture(scope="module")
def session(sample: Sample, lab: Lab) -> Any:
    with open_session(sample.dump, lab.store.root) as session:
        yield session


@pytest.fixture(scope="module")
def container(sample: Sample, session: Session) -> int:
    """The second process, which has a mount and an ipc namespace of its own."""
    (pid,) = (
        pid
        for pid in map(int, filter(str.isdecimal, session.files.listdir("/proc")))
        if session.files.read(f"/proc/{pid}/comm") == b"sleep\n"
    )
    return pid


def ask(session: Session, name: str, **options: Any) -> list[dict[str, Any]]:
    tool = tools.load(name)
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(session, chosen)]


ALL = (*MOUNTED, *UNMOUNTED)


def compared(session: Session, sample: Sample, places: tuple[str, ...] = ALL) -> Counter[str]:
    """How many files of each place are what the guest read; those that moved meanwhile are left out."""
    truth, same = sample.truth, Counter[str]()
    for path, reading in truth.late.items():
        place = next((place for place in places if path.startswith(f"{place}/")), None)
        moved = truth.early[path] != reading
        if place is None or moved or _OWN.fullmatch(path) or _COUNTED.fullmatch(path):
            continue
        if reading.errno:
            with pytest.raises(OSError):
                session.files.read(path)
        else:
            assert session.files.read(path) == reading.data, path
        same[place] += 1
    return same


def enough(same: Counter[str]) -> bool:
    return same["/sys/kernel/tracing"] > 60 and same["/sys/kernel/debug"] > 40 and set(same) >= {
        "/sys/kernel/security", "/sys/fs/cgroup", "/dev/mqueue", "/proc/sys/fs/binfmt_misc",
    }  # fmt: skip


def test_files_are_what_the_guest_read_mounted_or_not(session: Session, sample: Sample) -> None:
    assert enough(compared(session, sample))


def test_what_an_intruder_left_in_the_tracer_is_there(session: Session) -> None:
    trace = "/sys/kernel/tracing"
    assert b"p:spy/name __x64_sys_sethostname" in session.files.read(f"{trace}/kprobe_events")
    assert b"a note of an intruder" in session.files.read(f"{trace}/trace")
    assert b"__x64_sys_sethostname" in session.files.read("/sys/kernel/debug/kprobes/list")
    for _ in range(2):  # reading takes the events away, but not from the next one who reads
        assert b"a note of an intruder" in session.files.read(f"{trace}/trace_pipe")
        assert b"a note of an intruder" in session.files.read(f"{trace}/trace")
    with pytest.raises(PermissionError, match="to be written to"):
        session.files.read(f"{trace}/free_buffer")
    for path in FILES:
        assert session.files.read(path) == session.files.read(path.replace("/tracing", "/debug/tracing"))


def test_folders_hold_the_guests_names(session: Session) -> None:
    assert session.files.listdir("/dev/mqueue") == ["outer"]
    assert session.files.listdir("/sys/fs/bpf") == ["pinned"]
    assert {"inherits", "register", "spied", "status"} == set(
        session.files.listdir("/proc/sys/fs/binfmt_misc")
    )
    assert "spied" in session.files.listdir("/sys/fs/cgroup/unified")


def test_the_unified_control_groups_are_compared_wherever_the_guest_has_them(session: Session) -> None:
    """Here at /sys/fs/cgroup/unified, beside hierarchies of version 1."""
    found, read_error = grouped_processes(session.files.of_the_kernel)
    assert read_error is None
    assert found == {int(name) for name in session.files.listdir("/proc") if name.isdecimal()}


def test_the_guests_own_proc_and_sys_are_read_below_a_root_as_ours_are(sample: Sample, lab: Lab) -> None:
    """Nobody had looked at most of these files: their inodes are made now, and their sizes say nothing."""
    paths = [
        "/proc/kallsyms", "/proc/1/maps", "/proc/1/status", "/proc/sys/kernel/pid_max",
        "/sys/kernel/vmcoreinfo", "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/module/binfmt_misc/refcnt",
    ]  # fmt: skip
    with open_session(sample.dump, lab.store.root) as session:
        for path in paths:
            assert session.files.read(f"/proc/1/root{path}") == session.files.read(path) != b""
        for path in ("/sys/kernel/mm", "/proc/1/ns"):
            assert set(session.files.listdir(f"/proc/1/root{path}")) == set(session.files.listdir(path))


def test_what_the_guest_had_not_mounted_says_so(session: Session) -> None:
    for place in (*UNMOUNTED, "/sys/kernel/debug/tracing/events"):
        top = ask(session, "dir", path=place)[0]
        assert (top["NAME"], top["MODE"][0]) == (".", "d")
        assert str(top["TARGET"]).endswith(", not mounted here by the guest")
    for place in MOUNTED:
        assert "." not in [row["NAME"] for row in ask(session, "dir", path=place)]
    shown = {row["TARGET"] for row in ask(session, "mounts", unmounted=True) if row["SUPER"] is None}
    assert shown == set(UNMOUNTED)


def test_a_container_has_its_own(sample: Sample, lab: Lab, container: int) -> None:
    with open_session(sample.dump, lab.store.root, ns_of=container) as inside:
        assert inside.files.listdir("/dev/mqueue") == ["inner"]
        same = compared(inside, sample, tuple(place for place in ALL if place != "/dev/mqueue"))
        assert enough(same + Counter(["/dev/mqueue"]))
        unmounted = {found.place for found in inside.files.all_unmounted() if not found.missing}
        assert unmounted == {
            "/sys/kernel/tracing", "/sys/kernel/config", "/proc/sys/fs/binfmt_misc", "/dev/mqueue",
        }  # fmt: skip


def test_a_second_run_falls_back_nowhere(sample: Sample, lab: Lab, session: Session) -> None:
    compared(session, sample)
    session.keep_learned()
    with open_session(sample.dump, lab.store.root) as again:
        compared(again, sample)
        found: Statistics = again.statistics
        assert found.total.traps == 0 and found.total.rolled_back == 0


@NEEDS_FUSE
def test_they_are_in_the_mounted_tree(sample: Sample, lab: Lab, session: Session, tmp_path: Path) -> None:
    with mounted_image(sample.dump, lab.store.root, tmp_path / "case"):
        for path in ("/sys/kernel/security/lsm", "/sys/kernel/tracing/kprobe_events", "/dev/mqueue/outer"):
            assert (tmp_path / f"case{path}").read_bytes() == session.files.read(path)
        mark = os.getxattr(tmp_path / "case/sys/kernel/security", NOT_MOUNTED)
        assert mark == b"securityfs, not mounted here by the guest"


def test_what_no_superblock_exists_of_is_said(lab: Lab) -> None:
    session = lab.session("6.1 two CPUs")
    with pytest.raises(IncompleteDirectory, match="bpf: not mounted"):
        session.files.listdir("/sys/fs/bpf")
    (row,) = ask(session, "dir", path="/sys/fs/bpf")
    assert isinstance(row["NAME"], Unavailable)
    assert session.files.listdir("/dev/mqueue") == []
    with pytest.raises((FileNotFoundError, CallRolledBack)):
        session.files.read("/dev/mqueue/none")


@pytest.fixture
def forged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """Words of the image by their address that say something else."""
    memory = lab.session("6.1 two CPUs").bridge.virtual_memory
    read, words = memory.read_u64, dict[int, int]()
    monkeypatch.setattr(type(memory), "read_u64", lambda _self, vaddr: words.get(vaddr) or read(vaddr))
    yield words


def test_a_list_of_superblocks_that_leads_back_into_itself_ends(lab: Lab, forged: dict[int, int]) -> None:
    bridge = lab.session("6.1 two CPUs").bridge
    whole = super_blocks(bridge)
    forged[whole[3].vaddr] = whole[1].vaddr
    assert super_blocks(bridge) == whole[:4]


def test_pointers_of_superblocks_to_the_trusted_side_are_refused(lab: Lab, forged: dict[int, int]) -> None:
    bridge = lab.session("6.1 two CPUs").bridge
    whole = {block.kind: block for block in super_blocks(bridge)}
    trusted = bridge.boot.layout.guard_hole.start + 0x1000
    for kind, words in (("debugfs", (whole["debugfs"].root,)), ("tracefs", (whole["tracefs"].mount,))):
        for vaddr in range(whole[kind].vaddr, whole[kind].vaddr + 1024, 8):
            if any(0 <= bridge.virtual_memory.read_u64(vaddr) - word < 1024 for word in words):
                forged[vaddr] = trusted
    found = {block.kind: block for block in super_blocks(bridge)}
    assert "debugfs" not in found
    assert found["tracefs"].mount == 0
    assert found["securityfs"] == whole["securityfs"]
