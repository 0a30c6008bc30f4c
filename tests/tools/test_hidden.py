"""hidden finds what is planted by editing an image, and nothing in an image as it is."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import NETWORK, RICH
from hypothesis import given
from hypothesis import strategies as st
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.objects.task_list import task_list, tasks_offset
from hybridbridge_vol.bridge.objects.task_slab import tasks_in_slabs
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import HeldSocket
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.procfs.pid import parse_stat
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.cross_view.comparison import Comparison, Finding
from hybridbridge_vol.tools.cross_view.control_groups import grouped_processes
from hybridbridge_vol.tools.cross_view.modules import hidden_modules
from hybridbridge_vol.tools.cross_view.sockets import hidden_sockets, must_be_listed

Lab = Any
U64 = (1 << 64) - 1
TASK_SIZE = 16384
SOCKET_SOCK, SOCK_SIZE = 24, 1400
"""Where a struct socket has its sock (include/linux/net.h), and bytes of that in which nodes of lists are
looked for."""
PID_WORDS = 24
"""64-bit words of a struct pid in which the lists of its tasks begin."""
Row = tuple[Any, ...]


def hidden(session: Session) -> list[Row]:
    """The rows of the tool."""
    return [row.cells for row in tools.load("hidden").rows(session, {"probe": None})]


class Editor:
    """Words of the snapshot's memory, to be changed in a copy of its image."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bridge = session.bridge
        self.words: dict[int, int] = {}

    def read(self, vaddr: int) -> int:
        """The word at a virtual address."""
        self.bridge.space.complete(vaddr)
        return self.bridge.machine.read_u64(vaddr)

    def write(self, vaddr: int, word: int) -> None:
        """Replace the word at a virtual address."""
        text = vaddr - self.bridge.layout.text_vaddr
        if 0 <= text < self.bridge.layout.size:
            paddr = self.bridge.layout.text_paddr + text
        else:
            place = self.bridge.layout.translate(self.bridge.image, vaddr)
            assert place is not None
            paddr = place.paddr
        offset = self.bridge.image.offset_of(paddr)
        assert offset is not None
        self.words[offset] = word

    def unlink(self, node: int) -> None:
        """Take a `struct list_head` off its list, as list_del does."""
        following, before = self.read(node), self.read(node + 8)
        self.write(before, following)
        self.write(following + 8, before)

    def call(self, function: str, *arguments: int) -> int:
        """A function of the snapshot's kernel, whose answer is a pointer."""
        return self.session.caller.call(self.bridge.snapshot(function), *arguments) & U64


@pytest.fixture
def plant(
    lab: Lab, generation: str, tmp_path: Path
) -> Iterator[Callable[[Callable[[Editor], None]], list[Row]]]:
    """Edit a copy of a sample, and what `hidden` says of it."""

    def planted(edit: Callable[[Editor], None]) -> list[Row]:
        sample, path = lab.sample(generation), tmp_path / "planted.raw"
        editor = Editor(lab.session(generation))
        edit(editor)
        assert editor.words
        subprocess.run(["cp", "--sparse=always", sample.dump, path], check=True)
        with open(path, "r+b") as stream:
            for offset, word in editor.words.items():
                stream.seek(offset)
                stream.write(word.to_bytes(8, "little"))
        with open_session(path, lab.store.root) as session:
            return hidden(session)

    yield planted
    (tmp_path / "planted.raw").unlink(missing_ok=True)


def listener(lab: Lab, generation: str) -> int:
    """A process of the sample that listens."""
    truth = lab.sample(generation).truth
    pids = [pid for pid in truth.processes if truth.late[f"/proc/{pid}/comm"].data == b"redis-server\n"]
    return pids[0]


def test_a_clean_image_has_no_row(lab: Lab, generation: str) -> None:
    assert hidden(lab.session(generation)) == []


def test_the_list_of_tasks_is_that_of_proc(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    tasks, reason = session.tasks.listed()
    assert reason == ""
    assert sorted(pid for pid, _task in tasks) == lab.sample(generation).truth.processes


def test_every_module_is_found_by_the_addresses_it_lies_at(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    listed = {line.split()[0] for line in lab.sample(generation).truth.command("lsmod").splitlines()[1:]}
    symbols = [session.addresses.symbol(page) for page in session.addresses.module_pages()]
    assert {name.rpartition("[")[2].rstrip("]") for name in symbols if "[" in name} == listed


@pytest.mark.parametrize("generation", RICH)
def test_a_process_and_a_module_unlinked_from_their_lists_are_found(
    lab: Lab, generation: str, plant: Any
) -> None:
    pid = listener(lab, generation)
    lines = lab.session(generation).files.read("/proc/modules").decode().splitlines()
    name, size = lines[2].split()[:2]

    def unlink(editor: Editor) -> None:
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        editor.unlink(editor.call("find_task_by_vpid", pid) + offset)
        module = editor.bridge.snapshot("modules")
        for _line in lines[:3]:
            module = editor.read(module)
        editor.unlink(module)

    others = "/proc listing, memory of tasks, control groups, children of its parent, /proc/PID look-up"
    assert plant(unlink) == [
        ("process", str(pid), "redis-server", others, "task list"),
        ("module", name, name, "/sys/module, addresses", "/proc/modules"),
        ("module", f"{int(size) // 1024} KiB of code and data", "", "/proc/vmallocinfo", "/proc/modules"),
    ]


@pytest.mark.parametrize("generation", ["6.1 two CPUs"])
def test_a_process_without_its_id_is_found_with_the_sockets_it_holds(
    lab: Lab, generation: str, plant: Any
) -> None:
    pid = listener(lab, generation)

    def detach(editor: Editor) -> None:
        task, number = editor.call("find_task_by_vpid", pid), editor.call("find_vpid", pid)
        for place in range(number, number + 8 * PID_WORDS, 8):
            if task < editor.read(place) < task + TASK_SIZE:
                editor.write(place, 0)

    rows = plant(detach)
    process = next(row for row in rows if row[0] == "process")
    seen, missing = (
        "task list, memory of tasks, control groups, children of its parent",
        "/proc listing, /proc/PID look-up",
    )
    assert process == ("process", str(pid), "", seen, missing)
    sockets = [row for row in rows if row[0] == "socket"]
    assert sockets
    assert all(row[4] == "/proc/PID/fd" and row[2].startswith("tcp 127.0.0.1:") for row in sockets)
    assert [row[1] for row in rows if row[0] == "thread"] == [
        f"1 of {lab.session(generation).system.sysinfo().procs}"
    ]


def test_the_processes_of_control_groups_are_those_that_the_guest_listed(
    lab: Lab, rich_generation: str
) -> None:
    truth = lab.sample(rich_generation).truth
    said: set[int] = set()
    for path in truth.late:
        if path.endswith("/cgroup.procs"):
            said.update(map(int, truth.file(path).split()))
    found, read_error = grouped_processes(lab.session(rich_generation).files)
    assert read_error is None
    assert found == said
    states = {pid: parse_stat(truth.file(f"/proc/{pid}/stat")).state for pid in set(truth.processes) - found}
    assert set(states.values()) == {"Z"}


def test_the_memory_of_tasks_holds_exactly_the_threads_of_the_guest(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    bridge = session.bridge
    tasks = tasks_in_slabs(bridge, [task for _pid, task in session.tasks.listed()[0]])
    number = bridge.snapshot("__task_pid_nr_ns")
    *others, observer = truth.processes
    said = [observer, *(int(tid) for pid in others for tid in truth.names(f"/proc/{pid}/task"))]
    assert sorted(session.caller.call(number, task, 0, 0) for task in tasks) == sorted(said)
    assert session.tasks.in_memory(tasks) == []


@pytest.mark.parametrize("generation", RICH)
def test_a_process_that_is_on_no_list_is_found_in_the_memory_of_tasks(
    lab: Lab, generation: str, plant: Any
) -> None:
    processes = set(lab.sample(generation).truth.processes)
    pid = max(
        pid for pid in processes if pid + 1 in processes and pid % 64 < 63
    )  # beside another in the table of ids

    def unlist(editor: Editor) -> None:
        task = editor.call("find_task_by_vpid", pid)
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        editor.unlink(task + offset)
        pattern = struct.pack("<2Q", editor.call("find_vpid", pid), editor.call("find_vpid", pid + 1))
        with (
            open(lab.sample(generation).dump, "rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        ):
            editor.words.update((found.start(), 0) for found in re.finditer(re.escape(pattern), memory))

    row = next(row for row in plant(unlist) if row[:2] == ("process", str(pid)))
    seen, missing = (
        "memory of tasks, control groups, children of its parent",
        "/proc listing, task list, /proc/PID look-up",
    )
    assert row == ("process", str(pid), "", seen, missing)


@pytest.mark.parametrize("generation", ["6.1 two CPUs"])
def test_a_broken_task_list_is_reported_and_nothing_counts_as_missing_in_it(
    lab: Lab, generation: str, plant: Any
) -> None:
    def cut(editor: Editor) -> None:
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        editor.write(
            editor.call("find_task_by_vpid", listener(lab, generation)) + offset, 0x4141_4141_4141_4141
        )

    (row,) = plant(cut)
    assert row[0] == "process"
    assert isinstance(row[1], Unavailable) and "out of the image" in row[1].reason


@pytest.mark.parametrize("generation", ["6.1 two CPUs"])
def test_a_cyclic_task_list_ends(lab: Lab, plant: Any, generation: str) -> None:
    def bend(editor: Editor) -> None:
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        task = editor.call("find_task_by_vpid", listener(lab, generation))
        editor.write(task + offset, editor.call("find_task_by_vpid", 2) + offset)

    (row,) = plant(bend)
    assert isinstance(row[1], Unavailable) and "back into itself" in row[1].reason


def test_a_list_of_tasks_is_walked_by_the_image_alone(lab: Lab, generation: str) -> None:
    tasks, reason = task_list(lab.session(generation).bridge)
    assert reason == "" and len(tasks) == len(set(tasks)) > 50


def unhash(editor: Editor, pid: int, fd: int) -> None:
    """Take a socket out of every hash table that it is in: what `sk_nulls_del_node_init` and its like do."""
    proxy = editor.session.proxy
    copy = proxy.raw("pidfd_getfd", proxy.raw("pidfd_open", pid, 0, side="twin"), fd, 0, side="twin")
    socket_vaddr = editor.call("sockfd_lookup", copy, editor.session.caller.put(bytes(8)))
    sock = editor.read(socket_vaddr + SOCKET_SOCK)
    for node in range(sock, sock + SOCK_SIZE, 8):
        following, holder = editor.read(node), editor.read(node + 8)
        if holder >> 48 == 0xFFFF:
            with contextlib.suppress(UnmappedVirtual):
                if editor.read(holder) == node:
                    editor.write(holder, following)
                    if following and not following & 1:
                        editor.write(following + 8, holder)
                    editor.write(node + 8, 0)


@pytest.mark.parametrize("generation", RICH)
def test_a_listener_that_was_taken_out_of_its_hash_table_is_found(
    lab: Lab, generation: str, plant: Any
) -> None:
    pid, files = listener(lab, generation), lab.session(generation).files
    (fd,) = [
        fd
        for fd in map(int, files.listdir(f"/proc/{pid}/fd"))
        if lab.session(generation).sockets.held(pid, fd).listens
        and files.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    ]
    inode = files.readlink(f"/proc/{pid}/fd/{fd}")[len("socket:[") : -1]
    rows = plant(lambda editor: unhash(editor, pid, fd))
    row = ("socket", f"inode {inode}", "redis-server", f"/proc/PID/fd: {pid}/{fd}", "/proc/net")
    assert row in rows
    assert {row[0] for row in rows} == {"socket"}


@pytest.mark.parametrize("name", sorted(NETWORK))
def test_a_guest_with_sockets_of_the_kernel_and_unused_ones_has_no_row(lab: Lab, name: str) -> None:
    session = lab.session(name)
    assert hidden(session) == []
    kernels = session.sockets.kernel_inodes("/proc/net/udp")
    text = lab.sample(name).truth.command("ss -uanpe")
    without_owner = [line for line in text.splitlines()[1:] if "users:" not in line and "[" not in line]
    assert {f"ino:{inode}" for inode in kernels} == {line.split()[5] for line in without_owner}
    assert len(kernels) >= 4


@given(
    st.sampled_from([1, 2, 10, 16, 17, 38, 40, 44]), st.integers(1, 5), st.integers(0, 300),
    st.booleans(), st.none() | st.integers(1, 12), st.none() | st.integers(0, 65535),
)  # fmt: skip
def test_what_was_never_used_is_not_missed(
    domain: int, kind: int, protocol: int, listens: bool, state: int | None, port: int | None
) -> None:
    held = HeldSocket(domain, kind, protocol, listens, state, port)
    if must_be_listed(held) and domain not in (1, 17) and kind != 3:
        assert port or listens or state not in (None, 7)


def test_a_socket_that_was_never_bound_is_lawful_on_this_machine() -> None:
    with socket.socket() as unbound, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        inodes = [os.fstat(it.fileno()).st_ino for it in (unbound, bound)]
        found = [row for row in hidden_sockets(LiveKernel()) if isinstance(row, Finding)]
    assert {f"inode {inode}" for inode in inodes}.isdisjoint(row.what for row in found)


def test_nothing_counts_as_missing_in_a_list_that_cannot_be_read() -> None:
    kernel = LiveKernel({"/proc/modules": CallRolledBack("read", "page fault"), "/proc/vmallocinfo": b""})
    rows = list(hidden_modules(kernel))
    assert Unavailable("/proc/modules: page fault") in rows
    assert not any(isinstance(row, Finding) and "/proc/modules" in row.missing for row in rows)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sets(st.integers(0, 9)), min_size=1), st.sampled_from("abcd")
)
def test_differences_are_what_some_list_does_not_name(named: dict[str, set[int]], broken: str) -> None:
    lists: Comparison[int] = Comparison()
    for name, keys in named.items():
        lists.add(name, keys, Unavailable("gone") if name == broken else None)
    found = {key: missing.split(", ") for key, _seen, missing in lists.differences()}
    for key in range(10):
        lacking = [name for name in named if key not in named[name] and name != broken]
        expected = lacking if any(key in keys for keys in named.values()) else []
        assert found.get(key, []) == expected
