"""tc: what the guest's own tc said right before the freeze."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from filters import EACH, ask
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink.traffic import parse_traffic
from hybridbridge_vol.netlink.traffic_options import _SCHEMAS, _STRUCTURES, options_text

Lab = Any
_COUNTS = ("bytes", "packets", "drops", "overlimits", "requeues", "backlog", "qlen")


@pytest.mark.parametrize("name", EACH)
def test_disciplines_are_the_guest_s(lab: Lab, name: str) -> None:
    said = json.loads(lab.sample(name).truth.command("tc -s -j -d qdisc show"))
    rows = ask(lab.session(name), "tc", disciplines=True)
    assert len(rows) == len(said) >= 8
    for one, row in zip(said, rows, strict=True):
        parent = one.get("parent", "root")
        assert (row["IFACE"], row["KIND"], row["HANDLE"]) == (one["dev"], one["kind"], one["handle"])
        assert row["PARENT"] == ("ingress" if parent == "ffff:fff1" else parent)
        assert [row[count.upper()] for count in _COUNTS] == [one[count] for count in _COUNTS]
    options = {row["KIND"]: row["OPTIONS"] or "" for row in rows}
    assert "ver: 3.17 r2q: 20 default: 0x30" in options["htb"]
    assert "limit: 500" in options["fq_codel"] and "ecn: 0" in options["fq_codel"]
    assert "delay_ns: 50000000" in options["netem"] and "loss: 1%; duplicate: 0.5%" in options["netem"]
    assert options["prio"] == "bands: 4; priomap: 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 3"
    assert "rate: 250000 " in options["tbf"]
    assert options["pfifo"] == "limit: 77"


@pytest.mark.parametrize("name", EACH)
def test_classes_are_the_guest_s(lab: Lab, name: str) -> None:
    said = re.findall(
        r"^class htb (\S+) (?:parent )?(\S+) .*?rate (\d+)Mbit ceil (\d+)Mbit",
        lab.sample(name).truth.command("tc -s -j -d class show dev out0"), re.MULTILINE,
    )  # fmt: skip
    rows = ask(lab.session(name), "tc", classes=True, interface=("out0",))
    ours = []
    for row in rows:
        rates = re.match(r"parms: rate: (\d+) ceil: (\d+) ", row["OPTIONS"] or "")
        if row["KIND"] == "htb" and rates is not None:
            speeds = (str(int(rate) * 8 // 1_000_000) for rate in rates.groups())
            ours.append((row["HANDLE"], row["PARENT"], *speeds))
    assert ours == said
    assert len(said) == 3


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize(
    "command, interface, parents",
    [
        ("out0", "out0", ("1:",)), ("out0 ingress", "out0", ("ingress",)), ("out0 egress", "out0",
        ("egress",)),
        ("out1", "out1", ("8001:",)),
    ],
)  # fmt: skip
def test_filters_are_the_guest_s(
    lab: Lab, name: str, command: str, interface: str, parents: tuple[str, ...]
) -> None:
    """tc's JSON of filters is none where a kind of filter prints itself: its words are looked for."""
    said = lab.sample(name).truth.command(f"tc -s -j -d filter show dev {command}")
    heads = re.findall(r'"protocol":"(\w+)","pref":(\d+),"kind":"(\w+)","chain":(\d+)', said)
    rows = ask(lab.session(name), "tc", filter=True, interface=(interface,))
    ours = [row for row in rows if row["PARENT"] in parents]
    assert [(row["PROTOCOL"], str(row["PRIO"]), row["KIND"], str(row["CHAIN"])) for row in ours] == heads
    assert heads
    text = " ".join(row["OPTIONS"] or "" for row in ours)
    for flowid in re.findall(r'"flowid":"([^"]*)"', said):
        assert f"flowid: {flowid}" in text
    for value, mask, offset in re.findall(r'"value":"(\w+)","mask":"(\w+)","offmask":"","off":(\d+)', said):
        assert f"match {value:>08}/{mask:>08} at {offset}" in text
    for kind in re.findall(r'"order":\d+,"kind":"(\w+)"', said):
        assert re.search(rf"[\[ ]{kind} ", text)
    for device in re.findall(r'"to_dev":"(\w+)"', said):
        assert f"egress mirror to {device}" in text
    for number in re.findall(r'"prog":\{"id":(\d+)', said):
        assert f"id: {number}" in text


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        assert ask(slow, "tc") == ask(lab.session("6.1 filters"), "tc")


@given(st.sampled_from([*_SCHEMAS, *_STRUCTURES, "novel"]), st.binary(max_size=200))
def test_any_options_become_text(kind: str, data: bytes) -> None:
    assert isinstance(options_text(kind, data, str), str)


@given(st.binary(max_size=120))
def test_no_message_is_too_odd(body: bytes) -> None:
    import struct

    try:
        parse_traffic(body)
    except struct.error:
        assert len(body) < 20
