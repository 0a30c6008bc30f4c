"""Which descriptors `queues` asks, of this machine's own processes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.guest.queues import SnapshotQueues
from hybridbridge_vol.guest.values import QueuedMessage, QueueEnd


class Asked:
    """Takes the place of the snapshot's queues: remembers who was asked."""

    def __init__(self, answer: list[QueuedMessage]) -> None:
        self.ends = list[tuple[int, int]]()
        self._answer = answer

    def expect(self, ends: Sequence[QueueEnd]) -> None:
        """Nothing is asked together."""

    def of_descriptor(self, pid: int, fd: int, is_socket: bool) -> list[QueuedMessage]:
        self.ends.append((pid, fd))
        return self._answer


@pytest.fixture
def sleeper() -> Iterator[tuple[socket.socket, int, int, subprocess.Popen[bytes]]]:
    """A socket, a terminal's two ends, and a process that has them too."""
    one, other = socket.socketpair()
    master, slave = os.openpty()
    with one, other, subprocess.Popen(["sleep", "600"], pass_fds=(one.fileno(), master, slave)) as process:
        yield one, master, slave, process
        process.kill()
    os.close(master)
    os.close(slave)


def asked(answer: list[QueuedMessage], *pids: int) -> list[tuple[int, int]]:
    """The descriptors that were asked, of these processes."""
    kernel, tool, queues = LiveKernel(), tools.load("queues"), Asked(answer)
    setattr(kernel, "queues", queues)  # noqa: B010
    list(tool.rows(kernel, tool.defaults() | {"pid": pids}))
    return queues.ends


def test_a_socket_is_asked_once_whoever_holds_it(
    sleeper: tuple[socket.socket, int, int, subprocess.Popen[bytes]],
) -> None:
    """Servers hand theirs to many processes; it is as empty there."""
    end, _master, _slave, process = sleeper
    ends = asked([], os.getpid(), process.pid)
    assert [(pid, fd) for pid, fd in ends if fd == end.fileno()] == [(os.getpid(), end.fileno())]


def test_a_terminal_is_shown_once_and_each_of_its_masters(
    sleeper: tuple[socket.socket, int, int, subprocess.Popen[bytes]],
) -> None:
    _end, master, slave, process = sleeper
    ends = asked([QueuedMessage(None, b"typed")], os.getpid(), process.pid)
    assert [pid for pid, fd in ends if fd == slave] == [os.getpid()]
    assert [pid for pid, fd in ends if fd == master] == [os.getpid(), process.pid]


@pytest.mark.parametrize("error", [errno.EADDRNOTAVAIL, errno.ENXIO])
def test_nothing_waits_in_a_socket_without_an_address(error: int) -> None:
    """CAN ISO-TP, QRTR and XDP, as they answer before bind(2)."""
    SnapshotQueues._check("/proc/1/fd/3", -error)
