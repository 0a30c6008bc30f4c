"""ip, ss, netstat and lsof on a guest with links, rules, routes and sockets of every kind: each field is held
against what the guest's own tools said right before the freeze."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from default_run import in_default_run
from generations import NETWORK, SLOW_NETWORK

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink import sock_diag
from hybridbridge_vol.toolkit.cells import Unavailable

Lab = Any
Row = dict[str, Any]
_MOVES = ("hello_timer", "tcn_timer", "topology_change_timer", "gc_timer", "hold_timer", "message_age_timer")
_MOVING = (*_MOVES, "forward_delay_timer", "mcast_querier_state", "usedbcqueuelen", "state")
"""What a bridge counts down, and a port that is still learning."""
_NAMES = {"group": "remote", "remote": "group"}
"""ip calls the other end of a VXLAN by what kind of address it is."""
_DERIVED = ("tclass", "flowlabel", "group_fwd_mask_str", "hold", "bridge", "private", "vepa", "flags")
"""What ip takes out of other attributes: `flowinfo`, `flags`."""


@pytest.fixture(params=in_default_run(NETWORK | SLOW_NETWORK, *NETWORK))
def network(request: pytest.FixtureRequest) -> str:
    """Each of the guests."""
    return str(request.param)


def ask(lab: Lab, name: str, tool_name: str, **options: Any) -> list[Row]:
    """The rows of a tool as dictionaries."""
    tool = tools.load(tool_name)
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    rows = tool.rows(lab.session(name), chosen)
    return [dict(zip(names, row.cells, strict=True)) for row in rows]


def named(text: str | None) -> dict[str, str]:
    """`name: value; name: value`."""
    return dict(item.split(": ", 1) for item in (text or "").split("; ") if ": " in item)


def said(lab: Lab, name: str, command: str) -> Any:
    return json.loads(lab.sample(name).truth.command(command) or "[]")


def same(ours: str, theirs: Any) -> bool:
    """Whether a value is what ip's JSON has."""
    if isinstance(theirs, bool):
        return ours == str(theirs).lower()
    if theirs is None:
        return ours in ("none", "true")
    if isinstance(theirs, dict):
        return ours == "-".join(str(value) for value in theirs.values())
    if isinstance(theirs, str) and theirs.startswith("8000."):  # ether_ntoa leaves leading zeros out
        return re.sub(r"\b0(?=[0-9a-f]\b)", "", ours[5:]) == re.sub(r"\b0(?=[0-9a-f]\b)", "", theirs[5:])
    if theirs == "any":
        return ours in ("any", "0.0.0.0", "::")
    return (
        ours == str(theirs)
        or ours.startswith("0x")
        and f"{int(ours, 16):x}" == str(theirs).removeprefix("0x")
    )


def test_every_link_is_the_guest_s_in_every_field(lab: Lab, network: str) -> None:
    rows = {row["IFACE"].partition("@")[0]: row for row in ask(lab, network, "ip", link=True)}
    theirs = said(lab, network, "ip -d -j link")
    assert list(rows) == [link["ifname"] for link in theirs]
    kinds = {link["linkinfo"]["info_kind"] for link in theirs if "linkinfo" in link}
    assert len(kinds) >= 20, kinds
    for link in theirs:
        row = rows[link["ifname"]]
        assert (row["IFINDEX"], row["FLAGS"].split(","), row["MTU"], row["QDISC"], row["STATE"]) == (
            link["ifindex"], link["flags"], link["mtu"], link["qdisc"], link["operstate"],
        )  # fmt: skip
        assert (row["GROUP"], row["QLEN"]) == (link["group"], link.get("txqlen", row["QLEN"]))
        assert (row["MASTER"], row["ALIAS"]) == (link.get("master"), link.get("ifalias"))
        assert (row["ADDRESS"], row["BRD"]) == (link.get("address"), link.get("broadcast"))
        assert (row["ALTNAMES"] or "").split() == link.get("altnames", [])
        assert row["NETNSID"] == link.get("link_netnsid")
        info = link.get("linkinfo", {})
        assert row["KIND"] == info.get("info_kind")
        assert (row["PORT"] or "").split(";")[0] == info.get("info_slave_kind", "")
        compare(named(row["INFO"]), info.get("info_data", {}), link["ifname"])
        compare(named(row["PORT"]), info.get("info_slave_data", {}), link["ifname"])
        plain = ("promiscuity", "allmulti", "min_mtu", "max_mtu", "inet6_addr_gen_mode", "num_tx_queues")
        more = ("num_rx_queues", "gso_max_size", "gso_max_segs", "permaddr", "linkmode")
        compare(
            named(row["MORE"]), {key: link[key] for key in (*plain, *more) if key in link}, link["ifname"]
        )
        assert "attribute " not in f"{row['INFO']} {row['PORT']} {row['MORE']}"


def compare(ours: dict[str, str], theirs: dict[str, Any], where: str) -> None:
    for key, value in theirs.items():
        if key in _MOVING or key in _DERIVED:
            continue
        if f"{key} " in ours.get("boolopt", ""):
            assert f"{key} {value}" in ours["boolopt"]
            continue
        found = ours.get(key, ours.get(_NAMES.get(key, "")))
        assert found is not None and same(found, value), (where, key, value, found, ours)


def test_every_rule_is_the_guest_s_line(lab: Lab, network: str) -> None:
    for option, command in (("inet", "ip -d rule"), ("inet6", "ip -d -6 rule")):
        lines = lab.sample(network).truth.command(command).splitlines()
        ours = [rule_words(row) for row in ask(lab, network, "ip", rule=True, **{option: True})]
        assert [sorted(words) for words in ours] == [sorted(line.split()) for line in lines]
    assert len(lines) >= 13


def rule_words(row: Row) -> list[str]:
    """The words of ip's line for a rule."""
    words = [f"{row['PRIORITY']}:", *([row["INVERT"]] if row["INVERT"] else []), "from", row["FROM"]]
    if row["TO"] != "all":
        words += ["to", row["TO"]]
    for name in ("IIF", "OIF", "FWMARK"):
        if row[name]:
            words += [name.lower(), row[name]]
    words += [row["ACTION"], *([row["TABLE"]] if row["TABLE"] else [])]
    names = {"protocol": "proto"}
    for key, value in named(row["MORE"]).items():
        if key == "flags":
            words.append("[detached]")
        elif key != "l3mdev":
            # ip asks /etc/protocols for the name of a protocol, which the guest does not have
            words += [names.get(key, key), f"ipproto-{value}" if key == "ipproto" else value]
    return words


def test_every_route_is_the_guest_s_line(lab: Lab, network: str) -> None:
    for option, command in (
        ("inet", "ip -d -4 route show table all"),
        ("inet6", "ip -d -6 route show table all"),
    ):
        text = re.sub(r"\n\tnh_info .*", "", lab.sample(network).truth.command(command))
        theirs = [line.split() for entry in re.split(r"\n(?!\t)", text.strip()) for line in hops_of(entry)]
        ours = [route_words(row, option) for row in ask(lab, network, "ip", route=True, **{option: True})]
        assert len(ours) == len(theirs)
        for mine, line in zip(ours, theirs, strict=True):
            assert sorted(without_expiry(mine)) == sorted(without_expiry(line)), (mine, line)
    routes = (NETWORK | SLOW_NETWORK)[network].routes
    assert sum(row["TABLE"] == "99" for row in ask(lab, network, "ip", route=True, inet=True)) == routes


def hops_of(entry: str) -> list[str]:
    """A route as one line for each of its next hops."""
    head, *hops = entry.split("\n")
    return [f"{head} {hop.replace('nexthop', '')}" for hop in hops] or [head]


def without_expiry(words: list[str]) -> list[str]:
    """Time goes on between the tool's reading and the freeze."""
    return [word for word in words if not re.fullmatch(r"8\d{4}(sec)?", word)]


def route_words(row: Row, option: str) -> list[str]:
    """The words of ip's line for a route."""
    words = [row["TYPE"], row["DESTINATION"], "table", row["TABLE"], "proto", row["PROTO"]]
    words += ["scope", row["SCOPE"] or "global"]
    names = {"GATEWAY": "via", "IFACE": "dev", "SRC": "src", "FROM": "from", "METRIC": "metric"}
    for column, name in (*names.items(), ("WEIGHT", "weight"), ("PREF", "pref"), ("EXPIRES", "expires")):
        if row[column] is not None:
            words += [name, *str(row[column]).split()]
    words += ["tos", f"{row['TOS']:#x}"] if row["TOS"] else []
    words += (row["FLAGS"] or "").split()
    for key, value in named(row["MORE"]).items():
        shown = value.replace("tos 0x0", "tos 0").replace(" flags 0000", "").replace("mpls dst", "mpls")
        if "segments" in shown:
            segments = shown.split("segs ")[1].split(",")
            shown = f"seg6 mode encap segs {len(segments)} [ {' '.join(segments)} ]"
        words += ([] if key == "metrics" else [key]) + shown.split()
    return words


def test_neighbours_that_the_machine_answers_for_are_shown_with_all(lab: Lab, network: str) -> None:
    rows = ask(lab, network, "ip", neigh=True, all=True)
    assert [(row["ADDRESS"], row["IFACE"]) for row in rows if row["FLAGS"] == "proxy"] == [
        ("10.4.0.50", "zoo0")
    ]
    assert "10.4.0.50 dev zoo0" in lab.sample(network).truth.command("ip neigh show proxy")


def test_netstat_i_has_the_guest_s_letters(lab: Lab, network: str) -> None:
    rows = {row["IFACE"]: row for row in ask(lab, network, "netstat", interfaces=True, all=True)}
    lines = lab.sample(network).truth.command("netstat -ia").splitlines()[2:]
    assert {line.split()[0]: line.split()[-1] for line in lines} == {
        name: row["FLG"] for name, row in rows.items()
    }
    assert {line.split()[0]: int(line.split()[1]) for line in lines} == {
        name: row["MTU"] for name, row in rows.items()
    }


_NASTY = (
    "@x\n0000000000000000: 00000002 00000000 00010000 0001 01 424242 /run/forged",
    "@\n0000000000000000: 00000002 00000000 00010000 0001 01     1 @forged",
    "/run/a\n00000000000000ff: 00000003 00000000 00000000 0001 03 424243",
    "@\n", "@ends in\n", "@\n\n\n", "/run/line\nbreak", "@tab\there", "@nul@in the middle", "@nuls@@@",
    "@@two", "@@at", "@\udcff\udcfe\udc80 bytes", "@caf\u00e9 \u202edesrever", "@\x1b[2J\x1b[31m\r\x07\x7f", 
    "@ blanks  ", "@ 424244", "@", "@queue\nof",
)  # fmt: skip
"""Names that guest/network.c binds."""


def test_unix_sockets_of_any_name_are_those_that_there_are(lab: Lab, network: str) -> None:
    """The guest's ss, by sock_diag, shows inodes and queues; its descriptors say which sockets there are."""
    rows = [row for row in ask(lab, network, "ss", unix=True, all=True, extended=True) if row["INODE"]]
    text = lab.sample(network).truth.command("ss -xanpe")
    pattern = r"^(u_\w+) +([A-Z-]+) +(\d+) +(\d+) [^§]*? (\d+) +\* (\d+) +users"
    theirs = re.findall(pattern, text.replace("\nu_", "§\nu_"), re.MULTILINE)
    ours = [
        (
            row["NETID"],
            row["STATE"],
            str(row["RECV-Q"]),
            str(row["SEND-Q"]),
            str(row["INODE"]),
            row["PEER"][2:],
        )
        for row in rows
    ]
    assert sorted(ours) == sorted(theirs)
    assert len(ours) > 30
    names = [row["LOCAL"].rpartition(" ")[0] for row in rows]
    assert set(_NASTY) <= set(names)
    assert not any("forged" in name and "\n" not in name for name in names)
    assert {row["INODE"] for row in rows} & {424242, 424243, 424244, 1} == set()
    (queue,) = [row for row in rows if row["LOCAL"].startswith("@queue") and row["STATE"] == "LISTEN"]
    assert (queue["RECV-Q"], len(named(queue["MORE"])["peers"].split())) == (2, 2)


def test_netstat_and_lsof_show_no_socket_that_a_name_describes(lab: Lab, network: str) -> None:
    rows = ask(lab, network, "netstat", unix=True, all=True, program=True)
    assert not any(isinstance(cell, Unavailable) for row in rows for cell in row.values())
    assert set(_NASTY) <= {row["PATH"] for row in rows}
    assert {row["I-NODE" if "I-NODE" in row else "INODE"] for row in rows} & {424242, 424243, 1} == set()
    held = [row for row in ask(lab, network, "lsof") if row["COMMAND"] == "network" and row["TYPE"] == "unix"]
    assert len(held) == len({row["DEVICE"] for row in held}) > 30
    shown = {row["NAME"].rpartition(" type=")[0] for row in held}
    assert {name.lstrip() for name in _NASTY} <= {*shown, ""}


def test_sockets_of_all_families_are_the_guest_s(lab: Lab, network: str) -> None:
    for family in ("sctp", "mptcp", "vsock", "xdp", "tipc"):
        text = lab.sample(network).truth.command(f"ss -anpe --{family}")
        lines = [line for line in text.splitlines()[1:] if not line.startswith("\t")]
        rows = ask(lab, network, "ss", **{family: True}, all=True)
        ours = [(row["STATE"], row["RECV-Q"], row["SEND-Q"], row["LOCAL"], row["PEER"]) for row in rows]
        if ours and isinstance(ours[0][0], Unavailable):
            assert "has no module" in ours[0][0].reason
            continue
        theirs = []
        for line in lines:
            words = line.replace("`- ", "").split()
            words = words[1:] if words[0][:2] in ("v_", "ti", "xd") else words
            theirs.append((words[0], int(words[1]), int(words[2]), words[3], words[4]))
        assert sorted(ours) == sorted(theirs), family
        assert ours or family in ("xdp", "tipc") or (family, network) == ("mptcp", "5.10 network")


def test_netstat_has_the_endpoints_and_associations_of_sctp(lab: Lab, network: str) -> None:
    """ss marks associations, and where they came in; it lists sockets that are no endpoints of the file."""
    text = lab.sample(network).truth.command("ss -anpe --sctp")
    form = r"^(`- )?([A-Z]+) +\d+ +\d+ +([\d.]+)(?:%\w+)?:(\d+) +([\d.]+:[\d*]+) .* ino:(\d+)"
    theirs = [
        (f"{address}:{port}", "" if state == "LISTEN" else peer, int(inode))
        for mark, state, address, port, peer, inode in re.findall(form, text, re.MULTILINE)
        if mark or state == "LISTEN"
    ]
    rows = ask(lab, network, "netstat", sctp=True, all=True, extended=True, program=True)
    ours = [(*(re.sub(",.*:", ":", row[end]) for end in ("LOCAL", "FOREIGN")), row["INODE"]) for row in rows]
    assert sorted(ours) == sorted(theirs)
    assert len(ours) > 3
    assert {row["PROGRAM"] for row in rows} == {"network"}
    counters = {row["COUNTER"]: row["VALUE"] for row in ask(lab, network, "netstat", statistics=True)}
    assert counters["ActiveEstabs"] == 1 and counters["PassiveEstabs"] == 1


def test_listening_sockets_have_the_queues_that_the_guest_s_ss_shows(lab: Lab, network: str) -> None:
    """It asked by sock_diag, whose module was loaded: how many connections may wait is not in /proc."""
    lines = lab.sample(network).truth.command("ss -tuanpe").splitlines()
    theirs = [line.split()[2:5] for line in lines if line.startswith("tcp") and "LISTEN" in line]
    rows = ask(lab, network, "ss", tcp=True, listening=True)
    assert sorted([str(row["RECV-Q"]), str(row["SEND-Q"]), row["LOCAL"]] for row in rows) == sorted(theirs)
    assert any(queue != "0" for _received, queue, _local in theirs)


def test_sock_diag_is_answered_alike_by_every_bridge(lab: Lab) -> None:
    name = "6.12 network"
    tables = (sock_diag.UNIX, sock_diag.SCTP, sock_diag.MPTCP, sock_diag.VSOCK)
    answers = []
    for mode in (Mode.AUTO, Mode.SLOW, Mode.FAST):
        with open_session(lab.sample(name).dump, lab.store.root, mode=mode) as session:
            answers.append([session.sockets.dump(table) for table in tables])
            assert session.statistics.unattributed == {}
            assert session.statistics.unknown_instructions == {}
    assert answers[0] == answers[1] == answers[2]
    assert all(answers[0])


def test_another_namespace_has_sockets_of_its_own(lab: Lab) -> None:
    session = lab.session("6.12 network")
    (pid,) = [
        pid
        for pid in lab.sample("6.12 network").truth.processes
        if session.files.read(f"/proc/{pid}/cmdline") == b"sleep\x0070000\0"
    ]
    # since 5.19 each namespace has a table of its own
    assert len(session.sockets.dump(sock_diag.UNIX, pid)) < len(session.sockets.dump(sock_diag.UNIX, 1))


def test_what_proc_net_does_not_show_of_sockets_is_shown_too(lab: Lab, network: str) -> None:
    """Those that ss, by inet_diag, says to be for IPv6 only, and the control groups."""
    rows = {
        str(row["INODE"]): named(row["MORE"])
        for row in ask(lab, network, "ss", tcp=True, udp=True, all=True, extended=True)
        if row["INODE"]
    }
    lines = [
        line
        for line in lab.sample(network).truth.command("ss -tuanpe").splitlines()[1:]
        if " ino:" in line and " ino:0 " not in line
    ]
    assert len(lines) > 10
    for line in lines:
        extras = dict(word.partition(":")[::2] for word in line.split() if ":" in word)
        ours = rows[extras["ino"]]
        assert ours.get("v6only") == extras.get("v6only")
        if "cgroup" in extras:
            assert extras["cgroup"] in (f"unreachable:{ours['cgroup']}", "/")
    assert any("v6only" in row for row in rows.values())
