"""ss: what the guest's own said right before the freeze."""

from __future__ import annotations

import re
from typing import Any

import pytest
from generations import RICH
from hypothesis import given
from hypothesis import strategies as st
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.procfs.net import parse_inet_socket
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.tools.network.ss.text_tables import inet_socket, timer_text

Lab = Any


def ask(kernel: Any, **options: Any) -> list[dict[str, Any]]:
    """The rows of ss as dictionaries."""
    tool = tools.load("ss")
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(kernel, chosen)]


def said(text: str) -> list[tuple[str, str, int, int, str, str, dict[str, str]]]:
    """The lines of ss: kind, state, queues, the two ends, and what follows by its names."""
    found = []
    for line in text.splitlines()[1:]:
        netid, state, received, sent, rest = line.split(maxsplit=4)
        ends = r"(\S+ \d+|\* \d+) +(\* \d+)" if netid.startswith("u_") else r"(\S+) +(\S+)"
        match = re.match(ends, rest)
        assert match is not None
        extras = dict(word.partition(":")[::2] for word in rest[match.end() :].split())
        found.append((netid, state, int(received), int(sent), match[1], match[2], extras))
    return found


def cells(row: dict[str, Any]) -> tuple[Any, ...]:
    """As the guest's ss wrote them: without sock_diag it did not know what takes nothing of IPv4."""
    netid, state, received, sent, local, peer = (
        row[name] for name in ("NETID", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "PEER")
    )
    return netid, state, received, sent, local.replace("[::]:", "*:"), peer.replace("[::]:", "*:")


def test_ss_tuanpe_is_the_guest_s(lab: Lab, generation: str) -> None:
    truth = lab.sample(generation).truth
    rows = ask(
        lab.session(generation), tcp=True, udp=True, all=True, processes=True, extended=True, timers=True
    )
    theirs = said(truth.command("ss -tuanpe"))
    assert sorted(map(cells, rows)) == sorted(line[:6] for line in theirs)
    ours = {cells(row): row for row in rows}
    for *line, extras in theirs:
        row = ours[tuple(line)]
        assert extras.get("users", "()") == f"({row['PROCESS'] or ''})"
        if "ino" in extras:  # which ss says of TCP only
            assert (row["UID"], row["INODE"], f"{row['SK']:x}") == (
                int(extras.get("uid", 0)),
                int(extras["ino"]),
                extras["sk"],
            )
        if "timer" in extras:
            name, _, _ = extras["timer"].strip("()").split(",")
            assert row["TIMER"].split(",")[0] == name
        elif row["TIMER"]:
            assert row["NETID"] == "udp"


def test_ss_xanp_is_the_guest_s(lab: Lab, generation: str) -> None:
    rows = ask(lab.session(generation), unix=True, all=True, processes=True)
    theirs = said(lab.sample(generation).truth.command("ss -xanp"))

    def as_by_text(line: tuple[Any, ...]) -> tuple[Any, ...]:
        # without unix_diag ss knows neither queues nor peers, and takes each datagram socket for connected
        return (line[0], "" if line[0] == "u_dgr" else line[1], line[4])

    assert sorted(as_by_text(cells(row)) for row in rows) == sorted(as_by_text(line) for line in theirs)
    peers = {row["LOCAL"].split()[-1]: row["PEER"].split()[-1] for row in rows if row["PEER"] != "*"}
    assert all(peers[peer] == inode for inode, peer in peers.items() if peers.get(peer, "0") != "0")
    assert any(row["RECV-Q"] for row in rows) or generation not in RICH
    kernel_says = {
        line.split()[6]: line.split()[5]
        for line in lab.sample(generation).truth.file("/proc/net/unix").decode().splitlines()
    }
    for row in rows:
        if row["NETID"] == "u_dgr":
            assert row["STATE"] == {"01": "UNCONN", "03": "ESTAB"}[kernel_says[row["LOCAL"].split()[-1]]]
    users = {line[4]: line[6].get("users") for line in theirs}
    assert {row["LOCAL"]: f"({row['PROCESS']})" for row in rows} == users


def test_ss_with_info_tells_windows_and_timeouts(lab: Lab, rich_generation: str) -> None:
    rows = {
        cells(row)[4:]: row
        for row in ask(lab.session(rich_generation), tcp=True, raw=True, all=True, info=True)
    }
    established = 0
    for netid, state, _, _, local, peer, extras in said(
        lab.sample(rich_generation).truth.command("ss -tuwanoipem")
    ):
        if netid == "udp":
            continue
        row = rows[local, peer]
        if state == "ESTAB":
            established += 1
            assert row["RTO"] == round(float(extras["rto"]) * 1000)
            assert row["CWND"] == int(extras["cwnd"])
            assert (row["ATO"] or 0) == round(float(extras.get("ato", 0)) * 1000)
            assert (row["QACK"] or 0) == int(extras.get("qack", 0))
        elif netid == "raw":
            assert row["RTO"] is None
    assert established > 3


def test_all_families_are_shown_and_states_choose_among_them(lab: Lab) -> None:
    session = lab.session("6.1 two CPUs")
    kinds = {row["NETID"] for row in ask(session, all=True)}
    assert kinds >= {"nl", "p_raw", "u_str", "u_dgr", "u_seq", "raw", "udp", "tcp"}
    assert {row["STATE"] for row in ask(session)} & {"LISTEN", "UNCONN", "TIME-WAIT"} == set()
    assert {row["STATE"] for row in ask(session, listening=True)} == {"LISTEN", "UNCONN"}
    assert {row["STATE"] for row in ask(session, state=("time-wait", "fin-wait-2"))} == {
        "TIME-WAIT",
        "FIN-WAIT-2",
    }
    assert {row["NETID"] for row in ask(session, inet6=True, all=True)} <= {"raw", "udp", "tcp"}
    assert "rtnl:kernel" in {row["LOCAL"] for row in ask(session, netlink=True, all=True)}
    assert [row["LOCAL"] for row in ask(session, packet=True, all=True)] == ["*:*"]


def test_a_state_that_does_not_exist_is_reported_with_those_that_do() -> None:
    with pytest.raises(OptionError, match="--state gone: no such state; there are established, syn-sent"):
        ask(LiveKernel(), state=("time-wait", "gone"))


@pytest.mark.parametrize(
    "left, text",
    [
        (0, ""),
        (200, "200ms"),
        (7900, "7.900ms"),
        (12_340, "12sec"),
        (72_500, "1min12sec"),
        (7_200_000, "120min"),
    ],
)
def test_time_left_is_written_as_ss_writes_it(left: int, text: str) -> None:
    assert timer_text(left) == text


@given(st.integers(0, 255), st.integers(0, 255))
def test_no_number_of_a_state_or_timer_is_too_large(state: int, timer: int) -> None:
    from hybridbridge_vol.tools import netstat

    line = f"0: 0100007F:0016 00000000:0000 {state:02X} 0:0 {timer:02X}:0 0 0 0 7 1 0 1 2 3 4 5"
    socket = parse_inet_socket(line.encode())
    assert inet_socket("tcp", socket, Source("")).state == state
    assert netstat._inet_cells("tcp", socket)[netstat.STATE] is not None
