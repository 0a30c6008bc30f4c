"""A program's netlink sockets when a question about something else was rolled back between two parts of an
answer. The program must see what it would have seen without."""

from __future__ import annotations

import contextlib
import errno
import shlex
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from generations import Lab
from native_runs import Run

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.native.sockets import ProgramSocket
from hybridbridge_vol.netlink.rtnetlink import RTM_GETROUTE

IMAGE = "6.12 network"
"""It has 4000 routes, which do not fit into one message."""
_DUMP_REQUEST, _NLMSG_DONE = 0x301, 3
_ANY_PORT = struct.pack("<HHII", socket.AF_NETLINK, 0, 0, 0)


def _routes(sequence: int) -> bytes:
    """A request for all routes of IPv4."""
    body = struct.pack("<B11x", socket.AF_INET)
    return struct.pack("<IHHII", 16 + len(body), RTM_GETROUTE, _DUMP_REQUEST, sequence, 0) + body


def _parts(made: ProgramSocket, between: Callable[[], None]) -> Iterator[bytes]:
    """What is received up to the end of the list."""
    while True:
        between()
        data = made.receive(1 << 15, 0).data
        yield data
        if struct.unpack_from("<H", data, 4)[0] == _NLMSG_DONE:
            return


def _made(session: Session) -> ProgramSocket:
    ours, _theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = ProgramSocket(session, socket.AF_NETLINK, socket.NETLINK_ROUTE, ours)
    assert made.set("bind", _ANY_PORT) == 0
    return made


@pytest.fixture
def session(lab: Lab) -> Iterator[Session]:
    """One whose rolled-back calls are nobody else's."""
    with open_session(lab.sample(IMAGE).dump, lab.store.root) as own:
        yield own


def _nothing() -> None:
    pass


def test_an_answer_goes_on_where_it_was_after_memory_went_back_to_the_mark(session: Session) -> None:
    made = _made(session)
    made.send(_routes(1))
    whole = list(_parts(made, _nothing))
    assert len(whole) > 2
    made.send(_routes(1))
    assert list(_parts(made, session.caller.roll_back)) == whole
    made.close()


def test_a_finished_answer_is_not_received_again(session: Session) -> None:
    made = _made(session)
    made.send(_routes(1))
    list(_parts(made, _nothing))
    session.caller.roll_back()
    with pytest.raises(BlockingIOError):
        made.receive(1 << 15, 0)
    made.close()


def test_a_socket_keeps_its_address_when_something_is_set_up_for_good(session: Session) -> None:
    """Mounting moves the mark: a socket that was open then would hold its address for ever."""
    made = _made(session)
    made.send(_routes(1))
    before = made.name()
    assert session.files.read("/sys/kernel/uevent_seqnum")
    assert list(session.files.listdir("/sys/fs/cgroup"))
    session.caller.roll_back()
    made.send(_routes(2))
    for part in _parts(made, session.caller.roll_back):
        assert struct.unpack_from("<I", part, 12)[0] == struct.unpack_from("<I", before, 4)[0]
    made.close()


_TWO_SOCKETS = """
import socket, struct
def opened():
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    made.bind((0, 0))
    return made
first = opened()
first.send(struct.pack("<IHHII", 28, 18, 0x301, 7, 0) + bytes(12))
ports = {struct.unpack_from("<I", first.recv(1 << 16), 12)[0]}
try:
    open("/sys/block/vda/cache_type").read()  # a register of a device: rolled back
except OSError as error:
    print(error.errno)
second = opened()
done = False
while not done:
    data = first.recv(1 << 16)
    ports.add(struct.unpack_from("<I", data, 12)[0])
    done = struct.unpack_from("<H", data, 4)[0] == 3
print(ports == {first.getsockname()[0]}, second.getsockname()[0] in ports)
"""


def test_no_new_socket_takes_the_address_of_one_that_a_roll_back_closed(run: Run) -> None:
    """ip asks on a second socket for the interfaces that routes name, and passes over messages to another
    address than its own."""
    done = run("6.1 disks", f"/usr/bin/python3 -c {shlex.quote(_TWO_SOCKETS)}")
    assert done.stdout.decode() == f"{errno.EIO}\nTrue False\n", done.stderr


def test_requests_that_a_program_writes_are_answered(lab: Lab, run: Run) -> None:
    """busybox sends them with write(2), and asks on a stream socket how long the queues are."""
    done = run(IMAGE, "busybox ip addr")
    assert (done.status, done.failures) == (0, {}), done.stderr
    shown = {line.split()[1].rstrip(b":") for line in done.stdout.splitlines() if line[:1].isdigit()}
    links = lab.session(IMAGE).files.listdir("/sys/class/net")
    assert {name.split(b"@")[0].decode() for name in shown} == set(links) - {"bonding_masters"}


_NAMESPACE = """
import socket, struct, sys
made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
made.bind((0, 0))
with open(sys.argv[1]) as namespace:
    made.send(struct.pack("<IHHII4xHHi", 28, 90, 1, 7, 0, 8, 3, namespace.fileno()))
    print(struct.unpack_from("<H", made.recv(1 << 16), 4)[0])
"""
_RTM_NEWNSID = 88


def test_a_namespace_is_asked_for_by_a_programs_descriptor(lab: Lab, run: Run) -> None:
    """As ip does that names the namespace of an interface's peer."""
    files = lab.session(IMAGE).files
    namespaces = {}
    for pid in filter(str.isdecimal, files.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError):  # one that has ended
            namespaces[files.readlink(f"/proc/{pid}/ns/net")] = pid
    other = next(pid for name, pid in namespaces.items() if name != files.readlink("/proc/1/ns/net"))
    done = run(IMAGE, f"/usr/bin/python3 -c {shlex.quote(_NAMESPACE)} /proc/{other}/ns/net")
    assert done.stdout.decode() == f"{_RTM_NEWNSID}\n", done.stderr
