"""conntrack: what the guest's own said right before the freeze."""

from __future__ import annotations

import re
from typing import Any

import pytest
from filters import EACH, ask, asked
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink.conntrack import parse_connection, parse_expectation

Lab = Any
_MOVES = 60
"""Seconds that may pass between the tool's answer and the freeze."""


def fields(line: str) -> tuple[str, int, list[str], dict[str, list[str]]]:
    """A line of `conntrack -L`: protocol, timeout, words without a value, values by their names."""
    line = line.replace("[UNREPLIED]", "UNREPLIED").replace("[ASSURED]", "ASSURED")
    words = re.sub(r"\[[A-Z][a-z]{2} .*?\]", "", line).split()
    if words[0] in ("ipv4", "ipv6"):
        del words[:2]
    values: dict[str, list[str]] = {}
    for word in words[3:]:
        if "=" in word:
            values.setdefault(word.partition("=")[0], []).append(word.partition("=")[2])
    return words[0], int(words[2]), [word for word in words[3:] if "=" not in word], values


def end(address: str, values: dict[str, list[str]], port: str, which: int) -> str:
    if "type" in values:
        number = values["id"][which]
        kind = f"{values['type'][which]}.{values['code'][which]}"
        return f"{address} id={number}" if port == "sport" else f"{address} type={kind}"
    name = port if port in values else {"sport": "srckey", "dport": "dstkey"}[port]
    number = str(int(values[name][which], 0)) if name in values else ""
    if not number:
        return address
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def rows_of(text: str) -> dict[tuple[str, str, str], tuple[str, int, list[str], dict[str, list[str]]]]:
    found = {}
    for line in text.splitlines():
        protocol, timeout, words, values = fields(line)
        source = end(values["src"][0], values, "sport", 0)
        found[protocol, source, end(values["dst"][0], values, "dport", 0)] = protocol, timeout, words, values
    return found


@pytest.mark.parametrize("name", EACH)
def test_connections_are_the_guest_s(lab: Lab, name: str) -> None:
    truth = lab.sample(name).truth
    said = rows_of(truth.command("conntrack -L") + truth.command("conntrack -L -f ipv6"))
    rows = ask(lab.session(name), "conntrack")
    ours = {(row["PROTO"], row["SOURCE"], row["DESTINATION"]): row for row in rows}
    assert ours.keys() == said.keys()
    assert len(ours) >= 10
    for key, (_protocol, timeout, words, values) in said.items():
        row = ours[key]
        assert 0 <= timeout - row["TIMEOUT"] <= _MOVES
        assert row["REPLY-SOURCE"] == end(values["src"][1], values, "sport", 1)
        assert row["REPLY-DESTINATION"] == end(values["dst"][1], values, "dport", 1)
        flags = [word for word in words if word in ("UNREPLIED", "ASSURED")]
        assert [flag for flag in (row["FLAGS"] or "").split() if flag in ("UNREPLIED", "ASSURED")] == flags
        assert (row["STATE"] or "") == "".join(word for word in words if word not in flags)
        assert [str(row["PACKETS"]), str(row["REPLY-PACKETS"])] == values["packets"]
        assert [str(row["BYTES"]), str(row["REPLY-BYTES"])] == values["bytes"]
        assert [str(row["MARK"])] == values["mark"]
        assert str(row["ZONE"] or 0) == values.get("zone", ["0"])[0]
    assert any(
        row["SOURCE"] != row["REPLY-DESTINATION"] or row["DESTINATION"] != row["REPLY-SOURCE"] for row in rows
    )


@pytest.mark.parametrize("name", EACH)
def test_ids_and_times_are_the_guest_s(lab: Lab, name: str) -> None:
    said = lab.sample(name).truth.command("conntrack -L -o extended,id,timestamp,ktimestamp")
    ids = {
        int(number)
        for number in re.findall(r" id=(\d+)$| id=(\d+) *\[|id=(\d{6,})", said)
        for number in number
        if number
    }
    rows = [row for row in ask(lab.session(name), "conntrack", inet=True)]
    assert {row["ID"] for row in rows} <= ids
    assert all(row["BEGUN"] and row["BEGUN"] < lab.sample(name).truth.times["realtime"] for row in rows)


@pytest.mark.parametrize("name", EACH)
def test_expectations_are_the_guest_s(lab: Lab, name: str) -> None:
    lines = lab.sample(name).truth.command("conntrack -L expect").splitlines()
    rows = ask(lab.session(name), "conntrack", expect=True)
    assert len(rows) == len(lines) == 1
    values = fields("tcp 6 " + lines[0].split()[0] + " " + " ".join(lines[0].split()[1:]))[3]
    assert rows[0]["DESTINATION"] == f"{values['dst'][0]}:{values['dport'][0]}"
    assert rows[0]["MASTER-DESTINATION"].startswith("127.0.0.1:")


def test_what_the_guest_had_not_loaded_is_added(lab: Lab) -> None:
    """nf_conntrack_netlink answers; a guest that tracks connections need not have it."""
    session = lab.session("6.1 two CPUs")
    assert not session.bridge.space.modules.is_listed("nf_conntrack_netlink")
    assert session.bridge.space.modules.is_listed("nf_conntrack")
    assert ask(session, "conntrack") == []
    assert session.bridge.space.modules.is_listed("nf_conntrack")


def test_another_network_namespace_has_connections_of_its_own(lab: Lab) -> None:
    """Nothing there asks for connections to be tracked."""
    sample = lab.sample("6.1 filters")
    pid = int(sample.truth.file("/run/elsewhere.pid"))
    with open_session(sample.dump, lab.store.root, ns_of=pid) as session:
        assert ask(session, "conntrack") == []
    assert asked(sample)["elsewhere conntrack -L"] == ""


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        for expect in (False, True):
            assert ask(slow, "conntrack", expect=expect) == ask(
                lab.session("6.1 filters"), "conntrack", expect=expect
            )


@given(st.binary(max_size=200))
def test_no_message_is_too_odd(body: bytes) -> None:
    import struct

    for parse in (parse_connection, parse_expectation):
        try:
            parse(body)
        except (struct.error, ValueError):
            pass
