"""ip: what the guest's own said right before the freeze, and what this machine's says now."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from errno import EOPNOTSUPP
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.netlink import rtnetlink
from hybridbridge_vol.netlink.messages import is_last
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row

Lab = Any


def rows_of(kernel: Any, **options: Any) -> list[Row]:
    tool = tools.load("ip")
    return list(tool.rows(kernel, tool.defaults() | options))


def ask(kernel: Any, **options: Any) -> list[dict[str, Any]]:
    """The rows of ip as dictionaries."""
    tool = tools.load("ip")
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in rows_of(kernel, **options)]


def said_by_ip_addr(text: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """What `ip addr` prints: the links (index, name, flags, MTU, queue, state, length, kind, address) and the
    addresses (index, family, address, scope, flags, valid, preferred)."""
    links: list[tuple[Any, ...]] = []
    addresses: list[tuple[Any, ...]] = []
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        words = line.split()
        if match := re.match(
            r"(\d+): ([^:]+): <(\S*)> mtu (\d+) qdisc (\S+) .*?state (\S+) group default qlen (\d+)", line
        ):
            index, name, flags, mtu, queue, state, length = match.groups()
            links.append(
                (int(index), name, flags, int(mtu), queue, state, int(length), *following.split()[:2])
            )
        elif words[0] in ("inet", "inet6"):
            scope = words[words.index("scope") + 1]
            flags = (
                " ".join(words[words.index("scope") + 2 :])
                .removesuffix(links[-1][1].partition("@")[0])
                .strip()
            )
            lifetime = following.split()
            addresses.append((links[-1][0], words[0], words[1], scope, flags, lifetime[1], lifetime[3]))
    return links, addresses


def test_ip_addr_is_the_guest_s(lab: Lab, generation: str) -> None:
    links, addresses = said_by_ip_addr(lab.sample(generation).truth.command("ip addr"))
    rows = ask(lab.session(generation))
    assert [
        (
            row["IFINDEX"],
            row["FAMILY"],
            row["ADDRESS"],
            row["SCOPE"],
            row["FLAGS"],
            row["VALID"],
            row["PREFERRED"],
        )
        for row in rows
        if not row["FAMILY"].startswith("link/")
    ] == addresses
    shown = [row for row in rows if row["FAMILY"].startswith("link/")]
    assert len(shown) == len(links)
    for row, (index, name, flags, mtu, queue, state, length, kind, address) in zip(shown, links, strict=True):
        assert (row["IFINDEX"], row["FLAGS"], row["MTU"], row["STATE"], row["QLEN"]) == (
            index,
            flags,
            mtu,
            state,
            length,
        )
        assert (row["FAMILY"], row["ADDRESS"]) == (kind, address)
        if isinstance(row["QDISC"], Unavailable):  # a driver's code stands in the way, and is named
            assert "module" in row["QDISC"].reason
            assert row["IFACE"] == name.partition("@")[0]
        else:
            assert (row["QDISC"], row["IFACE"]) == (queue, name)


def test_ip_neigh_is_the_guest_s_of_both_families(lab: Lab, rich_generation: str) -> None:
    said = [
        (words[0], words[2], words[4], words[5])
        for words in map(str.split, lab.sample(rich_generation).truth.command("ip neigh").splitlines())
    ]
    rows = ask(lab.session(rich_generation), neigh=True)
    assert [(row["ADDRESS"], row["IFACE"], row["LLADDR"], row["STATE"]) for row in rows] == said
    assert {row["STATE"] for row in ask(lab.session(rich_generation), neigh=True, all=True)} == {
        "PERMANENT",
        "NOARP",
    }
    six = lab.sample(rich_generation).truth.command("ip -6 neigh").splitlines()
    assert [row["ADDRESS"] for row in ask(lab.session(rich_generation), neigh=True, inet6=True)] == [
        line.split()[0] for line in six
    ]


def test_ip_route_of_all_tables_is_the_guest_s(lab: Lab, rich_generation: str) -> None:
    said = []
    for line in lab.sample(rich_generation).truth.command("ip route show table all").splitlines():
        words = line.split()
        kind = words.pop(0) if words[0] in ("local", "broadcast", "multicast", "anycast") else "unicast"
        values = dict(zip(words[1::2], words[2::2], strict=False))
        said.append(
            (
                kind, words[0], values.get("via"), values["dev"], values.get("table", "main"),
                values.get("proto", "boot"), values.get("src"), values.get("metric"), values.get("pref"),
            )
        )  # fmt: skip
    rows = ask(lab.session(rich_generation), route=True)
    ours = [
        (
            row["TYPE"], row["DESTINATION"], row["GATEWAY"], row["IFACE"], row["TABLE"], row["PROTO"],
            row["SRC"], None if row["METRIC"] is None else str(row["METRIC"]), row["PREF"],
        )
        for row in rows
    ]  # fmt: skip
    assert ours == said


def test_ip_link_has_the_counters_or_names_what_is_missing(lab: Lab, rich_generation: str) -> None:
    rows = {row["IFACE"].partition("@")[0]: row for row in ask(lab.session(rich_generation), link=True)}
    truth = lab.sample(rich_generation).truth
    # the guest read /sys before its last connections were made, and /proc/net/dev after them
    (lo,) = (line.split()[1:] for line in truth.file("/proc/net/dev").splitlines() if b" lo:" in line)
    for name, column in (("RX-BYTES", 0), ("TX-PACKETS", 9), ("COLLISIONS", 13)):
        assert rows["lo"][name] == int(lo[column])
    assert set(rows) >= {"lo", "dummy0", "br0"}
    for row in rows.values():
        assert isinstance(row["RX-BYTES"], int) or "module" in row["RX-BYTES"].reason


def test_every_bridge_gives_the_same_answers_and_nothing_unattributeds(lab: Lab) -> None:
    answers = []
    for mode in (Mode.AUTO, Mode.SLOW, Mode.FAST):
        with open_session(lab.sample("6.1 two CPUs").dump, lab.store.root, mode=mode) as session:
            answers.append([ask(session, **{option: True}) for option in ("neigh", "route", "rule")])
            assert session.statistics.unattributed == {}
            assert session.statistics.unknown_instructions == {}
    assert answers[0] == answers[1] == answers[2]
    assert [row["TABLE"] for row in answers[0][2] if row["FAMILY"] == "inet"] == ["local", "main", "default"]


_NO_CODE = 1 << 40


def test_the_socket_is_opened_again_after_a_call_was_rolled_back(lab: Lab) -> None:
    session = lab.session("6.12")
    session.files.listdir("/sys")  # mounted first: what is open at a mount stays open
    before = ask(session, route=True)
    with pytest.raises(CallRolledBack):
        session.caller.call(_NO_CODE, label="nothing")
    assert ask(session, route=True) == before


def test_a_request_that_the_kernel_refuses_is_its_errno(lab: Lab) -> None:
    with pytest.raises(OSError, match="not supported") as raised:
        lab.session("6.12").routes.dump(1022, bytes(4))
    assert raised.value.errno == EOPNOTSUPP


def test_a_neighbour_names_the_bytes_of_the_image_it_came_from(lab: Lab) -> None:
    with open_session(lab.sample("6.1 two CPUs").dump, lab.store.root, mode=Mode.SLOW) as session:
        labels = session.answer_labels
        labels.start()
        row = rows_of(session, neigh=True, inet=True)[0]
        provenance = str(labels.of(row.sources))
        offsets = [int(word.partition("+")[0], 16) for word in provenance.split() if word.startswith("0x")]
        image = lab.sample("6.1 two CPUs").dump.read_bytes()
        address = socket.inet_aton(str(row.cells[0]))
        assert any(image[offset : offset + 4] == address for offset in offsets), provenance


def test_links_of_this_machine_are_those_of_its_files() -> None:
    kernel = LiveKernel()
    by_netlink = ask(kernel)
    fault = CallRolledBack("sendto", "code of a module")
    names_of_all = os.listdir("/sys/class/net")
    alone = {f"netlink rtnetlink of {name}": fault for name in names_of_all}
    by_files = ask(LiveKernel({"rtnetlink 18": fault, **alone}))  # type: ignore[dict-item]
    names = (
        "IFINDEX",
        "FAMILY",
        "ADDRESS",
        "BRD",
        "FLAGS",
        "STATE",
        "MTU",
        "GROUP",
        "QLEN",
        "SCOPE",
        "VALID",
    )
    assert [[row[name] for name in names] for row in by_netlink] == [
        [row[name] for name in names] for row in by_files
    ]
    assert by_files[0]["QDISC"] == Unavailable("rtnetlink of lo: code of a module")


def test_a_request_that_fails_is_a_row_that_says_so() -> None:
    failing = LiveKernel(
        {
            "rtnetlink 30": CallRolledBack("sendto", "page fault"),
            "rtnetlink 18": CallRolledBack("sendto", "loop"),
            "/sys/class/net": CallRolledBack("getdents64", "page fault"),
        }
    )
    (row,) = rows_of(failing, neigh=True, inet=True)
    assert set(row.cells) == {Unavailable("rtnetlink: page fault")}
    first = rows_of(failing)[0]
    assert set(first.cells) == {Unavailable("/sys/class/net: page fault")}


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def test_a_route_shared_by_two_next_hops_is_two_rows() -> None:
    def hop(gateway: str, ifindex: int, weight: int) -> bytes:
        inner = attribute(5, socket.inet_aton(gateway))
        return struct.pack("<HBBi", 8 + len(inner), 0x10, weight - 1, ifindex) + inner

    body = struct.pack("<BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0) + attribute(
        9, hop("10.0.0.1", 1, 1) + hop("10.0.0.2", 77, 3)
    )
    message = (
        struct.pack("<IHHII", 16 + len(body), 24, 2, 1, 0) + body + struct.pack("<IHHIIi", 20, 3, 2, 1, 0, 0)
    )
    rows = ask(LiveKernel({"rtnetlink 26": message}), route=True, inet=True)
    assert [
        (row["DESTINATION"], row["GATEWAY"], row["IFACE"], row["WEIGHT"], row["FLAGS"]) for row in rows
    ] == [
        ("default", "10.0.0.1", "lo", 1, "linkdown"),
        ("default", "10.0.0.2", "if77", 3, "linkdown"),
    ]


def test_a_message_that_makes_no_sense_spoils_its_own_row_only() -> None:
    good = struct.pack("<BxxxiHBB", 2, 1, 2, 0, 1) + attribute(1, bytes([10, 0, 0, 9]))
    bad = struct.pack("<BxxxiHBB", 2, 1, 2, 0, 1) + attribute(1, b"\1\2\3")
    data = b"".join(struct.pack("<IHHII", 16 + len(body), 28, 2, 1, 0) + body for body in (bad, good))
    first, second = ask(LiveKernel({"rtnetlink 30": data}), neigh=True, inet=True)
    assert isinstance(first["ADDRESS"], Unavailable)
    assert (second["ADDRESS"], second["STATE"]) == ("10.0.0.9", "REACHABLE")


def test_neighbours_that_never_end_are_shown_once_and_reported() -> None:
    bodies = [
        struct.pack("<BxxxiHBB", 2, 1, 2, 0, 1) + attribute(1, bytes([10, 0, 0, last])) for last in (8, 9)
    ]
    circle = b"".join(struct.pack("<IHHII", 16 + len(body), 28, 2, 1, 0) + body for body in bodies * 50)
    rows = ask(LiveKernel({"rtnetlink 30": EndlessFile("rtnetlink 30", circle)}), neigh=True, inet=True)
    assert [row["ADDRESS"] for row in rows[:2]] == ["10.0.0.8", "10.0.0.9"]
    assert "does not end" in rows[2]["ADDRESS"].reason
    assert len(rows) == 3


@given(st.binary(max_size=300), st.sampled_from([18, 22, 26, 30, 34]))
def test_no_answer_brings_the_parsers_down(data: bytes, kind: int) -> None:
    parse: Any = {
        18: rtnetlink.parse_link,
        22: rtnetlink.parse_address,
        26: rtnetlink.parse_net_route,
        30: rtnetlink.parse_neighbour,
        34: rtnetlink.parse_rule,
    }[kind]
    framed = struct.pack("<IHHII", 16 + len(data), kind - 2, 2, 1, 0) + data
    list(rtnetlink.parsed(kind, data, parse))
    assert len(list(rtnetlink.parsed(kind, framed, parse))) == 1
    with contextlib.suppress(OSError):
        is_last(data)
