"""A truth is current if the last reading still has what the guest's commands reported."""

from __future__ import annotations

from typing import Any

import pytest
from generations import Lab

from samples import qemu
from samples.make import Spec, make_sample
from samples.stale import Connection, of_kernel, of_netstat, of_ss, stale

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 00 100 0
   1: 0100007F:1111 0100007F:0016 06 00000000:00000000 03:000010D9 00000000     0        0 0 3 00
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000001000000:0050 00000000000000000000000001000000:9C40 05 00000000:00000000 00:0 0
"""
NETSTAT = """\
Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name
tcp        0      0 127.0.0.1:22            0.0.0.0:*               LISTEN      7/sshd
tcp        0      0 127.0.0.1:4369          127.0.0.1:22            TIME_WAIT   -
tcp6       0      0 ::1:80                  ::1:40000               FIN_WAIT2   -
udp        0      0 127.0.0.1:53            0.0.0.0:*                           8/named
"""
SS = """\
Netid State      Recv-Q Send-Q Local Address:Port Peer Address:PortProcess
udp   UNCONN     0      0          127.0.0.1:53        0.0.0.0:*    users:(("named",pid=8,fd=3))
tcp   LISTEN     0      16         127.0.0.1:22        0.0.0.0:*    users:(("sshd",pid=7,fd=3))
tcp   TIME-WAIT  0      0          127.0.0.1:4369    127.0.0.1:22   timer:(timewait,43sec,0)
tcp   FIN-WAIT-2 0      0              [::1]:80          [::1]:40000 timer:(timewait,50sec,0)
"""
CONNECTIONS = [
    Connection(22, 0, "LISTEN"),
    Connection(4369, 22, "TIME_WAIT"),
    Connection(80, 40000, "FIN_WAIT2"),
]


def document(tcp: str = TCP, tcp6: str = TCP6, **commands: str) -> dict[str, Any]:
    """What truth.json has of it."""
    files = {"/proc/net/tcp": {"late": tcp}, "/proc/net/tcp6": {"late": tcp6}}
    return {"files": files, "commands": commands}


def test_every_report_is_understood_alike() -> None:
    assert [*of_kernel(TCP), *of_kernel(TCP6)] == CONNECTIONS
    assert list(of_netstat(NETSTAT)) == CONNECTIONS
    assert list(of_ss(SS)) == CONNECTIONS


def test_a_truth_that_holds_is_not_stale() -> None:
    assert stale(document(**{"netstat -tulpan": NETSTAT, "ss -tuanpe": SS})) == []
    assert stale(document()) == []


@pytest.mark.parametrize(("line", "report"), [("netstat -tulpan", NETSTAT), ("ss -tuanpe", SS)])
def test_a_connection_that_was_forgotten_since_is_named(line: str, report: str) -> None:
    gone = "".join(row for row in TCP.splitlines(keepends=True) if " 06 " not in row)
    assert stale(document(tcp=gone, **{line: report})) == [
        f"{line}: a connection in TIME_WAIT from port 4369 to port 22 is gone from the last reading"
    ]


def test_a_connection_that_has_another_state_since_is_named_twice() -> None:
    closed = TCP6.replace(" 05 ", " 06 ")
    assert stale(document(tcp6=closed, **{"ss -tuanpe": SS})) == [
        "ss -tuanpe: a connection in FIN_WAIT2 from port 80 to port 40000 is gone from the last reading",
        "ss -tuanpe: a connection in TIME_WAIT from port 80 to port 40000 is new in the last reading",
    ]


def test_the_shared_guests_have_a_current_truth_with_closed_connections(lab: Lab, generation: str) -> None:
    truth = lab.sample(generation).truth
    tables = [truth.file(path).decode() for path in ("/proc/net/tcp", "/proc/net/tcp6")]
    files = {
        path: {"late": table} for path, table in zip(("/proc/net/tcp", "/proc/net/tcp6"), tables, strict=True)
    }
    assert stale({"files": files, "commands": truth.commands}) == []
    states = {connection.state for table in tables for connection in of_kernel(table)}
    assert {"LISTEN", "ESTABLISHED", "TIME_WAIT"} <= states


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> int:
    """Guests whose clock advances by so many nanoseconds an instruction, on any host (QEMU,
    docs/devel/tcg-icount.rst)."""
    arguments = qemu.Machine.arguments
    shift = 6
    monkeypatch.setattr(
        qemu.Machine,
        "arguments",
        lambda machine: [*arguments(machine), "-icount", f"shift={shift},sleep=off"],
    )
    return 1 << shift


@pytest.mark.slow
def test_a_guest_that_is_slower_than_its_connections_last_has_a_current_truth(
    slow_clock: int, cache: Any
) -> None:
    sample = make_sample(Spec("5.10-cloud", seed=11))
    assert sample.truth.times["boottime"] > 180
    states = {connection.state for connection in of_kernel(sample.truth.file("/proc/net/tcp").decode())}
    assert {"TIME_WAIT", "FIN_WAIT2"} <= states
