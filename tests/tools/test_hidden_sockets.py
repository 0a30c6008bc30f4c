"""hidden and sockets: those taken out of their tables are found, lawful ones are not reported."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from default_run import in_default_run
from generations import NETWORK, RICH, SLOW_NETWORK
from guest_modules import loaded
from hypothesis import given
from hypothesis import strategies as st
from image_editor import Editor, hidden, planted
from live_kernel import LiveKernel

from hybridbridge_vol.guest.held_sockets import HeldSockets
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.guest.values import HeldSocket
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.cross_view.comparison import Finding
from hybridbridge_vol.tools.cross_view.sockets import hidden_sockets, must_be_listed
from hybridbridge_vol.tools.network.socket_names import SocketName, SocketNames

Lab = Any
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SOCKET_SOCK, SOCK_SIZE = 24, 1400
"""Where a struct socket has its sock (include/linux/net.h), and bytes of that in which nodes of lists are
looked for."""


def listener(lab: Lab, generation: str) -> int:
    """A process of the sample that listens."""
    truth = lab.sample(generation).truth
    pids = [pid for pid in truth.processes if truth.late[f"/proc/{pid}/comm"].data == b"redis-server\n"]
    return pids[0]


def unhash(editor: Editor, pid: int, fd: int) -> None:
    """Take a socket out of every hash table that it is in: what `sk_nulls_del_node_init` and its like do."""
    copy = HeldSockets(editor.session.proxy).copy(pid, fd)
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
    lab: Lab, generation: str, tmp_path: Path
) -> None:
    pid, files = listener(lab, generation), lab.session(generation).files
    (fd,) = [
        fd
        for fd in map(int, files.listdir(f"/proc/{pid}/fd"))
        if lab.session(generation).sockets.held(pid, fd).listens
        and files.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    ]
    inode = files.readlink(f"/proc/{pid}/fd/{fd}")[len("socket:[") : -1]
    rows = planted(lab, generation, tmp_path / "planted.raw", lambda editor: unhash(editor, pid, fd))
    row = ("socket", f"inode {inode}", "redis-server", f"/proc/PID/fd: {pid}/{fd}", "/proc/net")
    assert row in rows
    assert {row[0] for row in rows} == {"socket"}


@pytest.mark.parametrize("name", in_default_run(NETWORK | SLOW_NETWORK, *NETWORK))
def test_a_guest_with_sockets_of_the_kernel_and_unused_ones_has_no_row(lab: Lab, name: str) -> None:
    session = lab.session(name)
    assert hidden(session) == []
    kernels = session.sockets.kernel_inodes("/proc/net/udp")
    text = lab.sample(name).truth.command("ss -uanpe")
    without_owner = [line for line in text.splitlines()[1:] if "users:" not in line and "[" not in line]
    assert {f"ino:{inode}" for inode in kernels} == {line.split()[5] for line in without_owner}
    assert len(kernels) >= 4


def test_a_socket_whose_data_a_module_takes_is_the_kernels(lab: Lab) -> None:
    """nfsd and iSCSI have sockets with an open file that no process has any more."""
    generation = "6.1 two CPUs"
    pid, (_module, text_vaddr) = listener(lab, generation), loaded(lab.session(generation))[0]
    with open_session(lab.sample(generation).dump, lab.store.root) as own:
        machine = own.bridge.machine
        for fd in map(int, own.files.listdir(f"/proc/{pid}/fd")):
            target = own.files.readlink(f"/proc/{pid}/fd/{fd}")
            if target.startswith("socket:") and own.sockets.held(pid, fd).listens:
                break
        inode = int(target[len("socket:[") : -1])

        def tables() -> set[int]:
            return own.sockets.kernel_inodes("/proc/net/tcp") | own.sockets.kernel_inodes("/proc/net/tcp6")

        assert inode not in tables()
        editor = Editor(own)
        copy = HeldSockets(own.proxy).copy(pid, fd)
        socket_vaddr = editor.call("sockfd_lookup", copy, own.caller.put(bytes(8)))
        sock = editor.read(socket_vaddr + SOCKET_SOCK)
        wakes = own.bridge.snapshot("sock_def_readable")
        (place,) = (at for at in range(sock, sock + SOCK_SIZE, 8) if machine.read_u64(at) == wakes)
        machine.write_u64(place, own.bridge.snapshot("sock_def_wakeup"))
        assert inode not in tables()  # the kernel's own, for sockets of processes
        machine.write_u64(place, text_vaddr)
        assert inode in tables()


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


@contextlib.contextmanager
def in_another_namespace(leave_empty: bool) -> Iterator[tuple[int, int]]:
    """A process with a listening socket of a network namespace that it has left: this one, or with
    `leave_empty` one that no process is in any more. The process, and the socket's inode."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(OSError):
            flags = CLONE_NEWUSER | CLONE_NEWNET
            libc = ctypes.CDLL(None, use_errno=True)
            done = libc.unshare(flags) if leave_empty else 0
            held = socket.socket(socket.AF_UNIX)
            held.bind("\0" + f"hb-test-{os.getpid()}")
            held.listen()
            done = done or libc.unshare(CLONE_NEWNET if leave_empty else flags)
            os.write(writing, b"%d" % (0 if done else os.fstat(held.fileno()).st_ino))
            signal.pause()
        os._exit(1)
    os.close(writing)
    try:
        inode = int(os.read(reading, 32) or b"0")
        if not inode:
            pytest.skip("no process may make a network namespace here")
        yield pid, inode
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_socket_of_another_namespace_than_its_process_is_lawful_on_this_machine() -> None:
    """systemd opens a service's output before PrivateNetwork=, pasta a socket in its container's."""
    with in_another_namespace(leave_empty=False) as (pid, inode):
        fd = next(
            int(name)
            for name in os.listdir(f"/proc/{pid}/fd")
            if os.readlink(f"/proc/{pid}/fd/{name}") == f"socket:[{inode}]"
        )
        found = SocketNames(LiveKernel()).find(pid, inode, fd)
        rows = list(hidden_sockets(LiveKernel()))
    assert isinstance(found, SocketName) and found.type == "unix"
    assert f"inode {inode}" not in {row.what for row in rows if isinstance(row, Finding)}


def test_a_socket_of_a_namespace_without_processes_is_said_to_be_unread_on_this_machine() -> None:
    with in_another_namespace(leave_empty=True) as (pid, inode):
        rows = list(hidden_sockets(LiveKernel()))
    assert f"inode {inode}" not in {row.what for row in rows if isinstance(row, Finding)}
    reasons = [row.reason for row in rows if isinstance(row, Unavailable)]
    assert [reason for reason in reasons if f"socket {pid}/" in reason and "no process is in" in reason]
