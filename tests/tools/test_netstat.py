"""netstat, arp and route: what the guest's own said right before the freeze, and tables that are not as they
should be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row

Lab = Any
PROGRAM_WIDTH = 19
"""Characters that netstat keeps of `PID/program`."""


def rows_of(name: str, kernel: Any, **options: Any) -> list[Row]:
    tool = tools.load(name)
    return list(tool.rows(kernel, tool.defaults() | options))


def ask(name: str, kernel: Any, **options: Any) -> list[dict[str, Any]]:
    """A tool's rows as dictionaries."""
    tool = tools.load(name)
    names = [column.name for column in tool.columns_for(tool.defaults() | options)]
    return [dict(zip(names, row.cells, strict=True)) for row in rows_of(name, kernel, **options)]


def table(text: str, heads: int) -> list[list[str]]:
    return [line.split() for line in text.splitlines()[heads:]]


def test_netstat_tulpan_is_the_guest_s(lab: Lab, generation: str) -> None:
    said = []
    for line in lab.sample(generation).truth.command("netstat -tulpan").splitlines()[2:]:
        match = re.fullmatch(r"(\S+) +(\d+) +(\d+) (\S+) +(\S+) +([A-Z_0-9]*) +(-|\d+/.*?) *", line)
        assert match is not None
        said.append(match.groups())
    rows = ask(
        "netstat",
        lab.session(generation),
        tcp=True,
        udp=True,
        listening=True,
        program=True,
        all=True,
        numeric=True,
    )
    ours = [
        (
            row["PROTO"], str(row["RECV-Q"]), str(row["SEND-Q"]), row["LOCAL"], row["FOREIGN"], row["STATE"],
            f"{row['PID']}/{row['PROGRAM']}"[:PROGRAM_WIDTH].rstrip() if row["PID"] else "-",
        )
        for row in rows
    ]  # fmt: skip
    assert sorted(ours) == sorted(said)


def test_connections_that_no_process_has_any_more_are_shown_without_one(
    lab: Lab, rich_generation: str
) -> None:
    rows = ask("netstat", lab.session(rich_generation), tcp=True, program=True)
    nobody = [row for row in rows if row["STATE"] in ("TIME_WAIT", "FIN_WAIT2")]
    assert {row["STATE"] for row in nobody} == {"TIME_WAIT", "FIN_WAIT2"}
    assert all(row["PID"] is None for row in nobody)


def test_netstat_xap_is_the_guest_s(lab: Lab, rich_generation: str) -> None:
    said = set()
    for line in lab.sample(rich_generation).truth.command("netstat -xap").splitlines()[2:]:
        match = re.fullmatch(
            r"unix +(\d+) +\[ (ACC)? *\] +(\S+) +([A-Z]*) +(\d+) +(\S+) +(\S*) *", line.rstrip() + " "
        )
        assert match is not None, line
        said.add(match.groups(""))
    rows = ask("netstat", lab.session(rich_generation), unix=True, all=True, program=True)
    assert {
        (
            str(row["REFCNT"]),
            row["FLAGS"],
            row["TYPE"],
            row["STATE"],
            str(row["INODE"]),
            f"{row['PID']}/{row['PROGRAM']}",
            row["PATH"],
        )
        for row in rows
    } == said


def test_netstat_rn_and_route_are_the_guest_s(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    said = table(lab.sample(generation).truth.command("netstat -rn"), 2)
    rows = ask("netstat", session, route=True)
    assert [[str(cell) for cell in row.values()] for row in rows] == said
    rows = ask("route", session, inet=True)
    assert [
        [row[name] for name in ("DESTINATION", "GATEWAY", "GENMASK", "FLAGS", "IFACE")] for row in rows
    ] == [[*words[:4], words[-1]] for words in said]


def test_route_6_has_the_routes_that_ip_shows(lab: Lab, rich_generation: str) -> None:
    said = set()
    for words in table(lab.sample(rich_generation).truth.command("ip -6 route"), 0):
        hop = words[words.index("via") + 1] if "via" in words else "::"
        said.add(
            (
                words[0] if "/" in words[0] else f"{words[0]}/128",
                hop,
                words[words.index("dev") + 1],
                words[words.index("metric") + 1],
            )
        )
    rows = ask("route", lab.session(rich_generation), inet6=True)
    assert said <= {(row["DESTINATION"], row["GATEWAY"], row["IFACE"], str(row["METRIC"])) for row in rows}


def test_netstat_s_has_the_kernel_s_counters(lab: Lab, generation: str) -> None:
    session, truth = lab.session(generation), lab.sample(generation).truth
    rows = {
        (row["PROTOCOL"], row["COUNTER"]): row["VALUE"] for row in ask("netstat", session, statistics=True)
    }
    names, values = (
        line.split() for line in truth.file("/proc/net/snmp").decode().splitlines() if line.startswith("Tcp:")
    )
    for name, value in zip(names[1:], values[1:], strict=True):
        assert (
            abs(rows["Tcp", name] - int(value)) <= 1
        )  # a segment may be sent again between the reading and the freeze
    only = ask("netstat", session, statistics=True, udp=True)
    assert {row["PROTOCOL"] for row in only} >= {"Udp", "Udp6"}
    assert not {row["PROTOCOL"] for row in only} & {"Tcp", "Ip"}


def test_netstat_i_tells_each_interface_or_why_not(lab: Lab, generation: str) -> None:
    rows = {row["IFACE"]: row for row in ask("netstat", lab.session(generation), interfaces=True)}
    truth = lab.sample(generation).truth
    for line in truth.file("/proc/net/dev").decode().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        row = rows[name.strip()]
        assert (
            row["MTU"] == int(truth.file(f"/sys/class/net/{name.strip()}/mtu"))
            if name.strip() in ("lo", "dummy0")
            else 1
        )
        if isinstance(row["RX-OK"], Unavailable):
            assert "module" in row["RX-OK"].reason
        else:
            assert row["RX-OK"] == int(numbers.split()[1])
    assert rows["lo"]["FLG"] == "LRU"


def test_netstat_g_lists_groups_of_both_families(lab: Lab) -> None:
    rows = ask("netstat", lab.session("6.1 two CPUs"), groups=True)
    assert {(row["IFACE"], row["GROUP"]) for row in rows} >= {("lo", "224.0.0.1"), ("lo", "ff02::1")}


def test_arp_an_is_the_guest_s(lab: Lab, generation: str) -> None:
    said = [
        match.groups()
        for line in lab.sample(generation).truth.command("arp -an").splitlines()
        if (match := re.fullmatch(r"\? \((\S+)\) at (\S+) \[(\S+)\] PERM on (\S+)", line))
    ]
    rows = ask("arp", lab.session(generation))
    assert [(row["ADDRESS"], row["HWADDRESS"], row["HWTYPE"], row["IFACE"]) for row in rows] == said
    assert {row["FLAGS"] for row in rows} == {"CM"}
    assert ask("arp", lab.session(generation), interface="lo") == []


TCP = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENER = (
    b"   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1 "
    b"0000000000000001 100 0 0 10 0\n"
)
WAITING = (
    b"   1: 0100007F:1111 0100007F:0016 06 00000000:00000000 03:000010D9 00000000     0        0 0 3 "
    b"0000000000000002\n"
)
_TABLES = (
    "unix",
    *(f"{kind}{six}" for kind in ("tcp", "udp", "udplite", "raw", "icmp") for six in ("", "6")),
    "sctp/eps",
    "sctp/assocs",
)
NOTHING: dict[str, bytes | Exception] = {
    "sock_diag unix": b"",
    **{f"/proc/net/{name}": FileNotFoundError(2, "No such file or directory") for name in _TABLES},
}


def test_without_options_what_listens_is_left_out_and_with_l_the_rest() -> None:
    kernel = LiveKernel(NOTHING | {"/proc/net/tcp": TCP + LISTENER + WAITING})
    assert [row["STATE"] for row in ask("netstat", kernel)] == ["TIME_WAIT"]
    assert [row["STATE"] for row in ask("netstat", kernel, listening=True)] == ["LISTEN"]
    assert [row["STATE"] for row in ask("netstat", kernel, all=True)] == ["LISTEN", "TIME_WAIT"]


def test_extended_rows_tell_user_inode_and_timer() -> None:
    kernel = LiveKernel(NOTHING | {"/proc/net/tcp": TCP + LISTENER + WAITING})
    listener, waiting = ask("netstat", kernel, tcp=True, all=True, extended=True, timers=True)
    assert (listener["UID"], listener["INODE"], listener["TIMER"]) == (1000, 77, "off (0.00/0/0)")
    assert waiting["TIMER"] == "timewait (43.13/0/0)"


def test_owners_have_their_names_and_with_n_their_numbers() -> None:
    passwd = b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n"
    kernel = LiveKernel(NOTHING | {"/proc/net/tcp": TCP + LISTENER + WAITING, "/etc/passwd": passwd})
    chosen = {"tcp": True, "all": True, "extended": True}
    for name in ("netstat", "ss"):
        assert [(row["UID"], row["USER"]) for row in ask(name, kernel, **chosen)] == [
            (1000, "alice"),
            (0, "root"),
        ]
        numbers = ask(name, kernel, **chosen, numeric=True)
        assert [(row["UID"], row["USER"]) for row in numbers] == [(1000, "1000"), (0, "0")]
    unnamed = LiveKernel(kernel.files.answers | {"/etc/passwd": b""})
    assert [row["USER"] for row in ask("netstat", unnamed, **chosen)] == ["#1000", "#0"]


def test_a_process_whose_descriptors_cannot_be_read_may_own_any_socket() -> None:
    gap = CallRolledBack("getdents64", "page fault")
    kernel = LiveKernel(NOTHING | {"/proc/net/tcp": TCP + LISTENER + WAITING, "/proc/1/fd": gap})
    listener, waiting = ask("netstat", kernel, tcp=True, all=True, program=True)
    assert listener["PID"] == Unavailable("/proc/1/fd: page fault")
    assert waiting["PID"] is None  # nobody's in any case


@pytest.mark.parametrize(
    "name, options, path",
    [
        ("netstat", {"tcp": True, "all": True}, "/proc/net/tcp"),
        ("netstat", {"sctp": True, "listening": True}, "/proc/net/sctp/eps"),
        ("netstat", {"sctp": True}, "/proc/net/sctp/assocs"),
        ("arp", {}, "/proc/net/arp"),
        ("route", {"inet": True}, "/proc/net/route"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_row_that_says_so(
    name: str, options: dict[str, bool], path: str
) -> None:
    missing = NOTHING | {path: CallRolledBack("read", "page fault at 0xdead000")}
    (row,) = rows_of(name, LiveKernel(missing), **options)
    assert set(row.cells) == {Unavailable(f"{path}: page fault at 0xdead000")}
    first, second = rows_of(name, LiveKernel(NOTHING | {path: b"head\nsmeared \xff\nmore\n"}), **options)
    assert all(isinstance(cell, Unavailable) for cell in (*first.cells, *second.cells))


def test_a_cyclic_table_is_shown_once_and_reported() -> None:
    circle = TCP + LISTENER + WAITING + LISTENER.replace(b"0:", b"2:", 1) + WAITING.replace(b"1:", b"3:", 1)
    kernel = LiveKernel(NOTHING | {"/proc/net/tcp": EndlessFile("/proc/net/tcp", circle)})
    rows = ask("netstat", kernel, all=True)
    assert [row["STATE"] for row in rows[:2]] == ["LISTEN", "TIME_WAIT"]
    assert rows[2]["STATE"] == Unavailable("/proc/net/tcp: the kernel's list leads back into itself")
    assert len(rows) == 3


ENDPOINTS = (
    b" ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
    b"9e46b2b1 57fb8e95 2   10  16   4300   1000    57 10.0.0.1 0000:0000:0000:0000:0000:0000:0000:0001 \n"
    b"fe8a77b4 3d432221 0   10  17   4301      0    60 10.0.0.1 \n"
)
ASSOCIATIONS = (
    b" ASSOC     SOCK   STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <-> RADDRS\n"
    b"2b504fe3 a8ba0358 2   1   3  0       3        5        7       0    58 52273  4300  "
    b"10.0.0.1 10.0.0.2 <-> *10.0.0.9 \t    7500    10    10   10    0    0        0\n"
)
SCTP = NOTHING | {"/proc/net/sctp/eps": ENDPOINTS, "/proc/net/sctp/assocs": ASSOCIATIONS}


def test_sctp_has_its_endpoints_where_it_listens_and_its_associations_elsewhere() -> None:
    kernel = LiveKernel(SCTP)
    listening = ask("netstat", kernel, listening=True, extended=True)
    assert [(row["LOCAL"], row["STATE"], row["UID"], row["INODE"]) for row in listening] == [
        ("10.0.0.1,::1:4300", "LISTEN", 1000, 57),
        ("10.0.0.1:4301", "LISTEN", 0, 60),
    ]
    (connected,) = ask("netstat", kernel)
    assert (connected["LOCAL"], connected["FOREIGN"]) == ("10.0.0.1,10.0.0.2:52273", "10.0.0.9:4300")
    assert (connected["RECV-Q"], connected["SEND-Q"], connected["STATE"]) == (7, 5, "ESTABLISHED")
    assert len(ask("netstat", kernel, sctp=True, all=True)) == 3
    assert [row["LOCAL"] for row in ask("netstat", kernel, all=True, inet6=True)] == ["10.0.0.1,::1:4300"]
    assert ask("netstat", kernel, tcp=True, all=True) == []


def test_endpoints_of_a_cyclic_table_are_shown_once() -> None:
    again = ENDPOINTS + ENDPOINTS.partition(b"\n")[2]
    kernel = LiveKernel(SCTP | {"/proc/net/sctp/eps": EndlessFile("/proc/net/sctp/eps", again)})
    *rows, gap = ask("netstat", kernel, sctp=True, listening=True)
    assert [row["LOCAL"] for row in rows] == ["10.0.0.1,::1:4300", "10.0.0.1:4301"]
    assert gap["LOCAL"] == Unavailable("/proc/net/sctp/eps: the kernel's list leads back into itself")


def test_a_row_names_its_line_and_its_owner_s_descriptor(lab: Lab) -> None:
    kernel = lab.session("6.12")
    row = next(row for row in rows_of("netstat", kernel, tcp=True, listening=True, program=True))
    line, owner = row.sources
    assert line.path == "/proc/net/tcp"
    assert b" 0A " in kernel.files.read(line.path)[line.start : line.end]
    assert owner.path.startswith("readlink /proc/")
    assert kernel.files.readlink(owner.path.removeprefix("readlink ")).startswith("socket:[")
