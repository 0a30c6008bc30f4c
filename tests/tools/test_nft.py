"""nft: what the guest's own said right before the freeze."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from filters import EACH, ask, asked
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.listing import Ruleset

Lab = Any


def without_clock(text: str) -> str:
    """Without the time that is left: it went on until the freeze."""
    return re.sub(r"expires [0-9a-z]+", "expires T", text)


@pytest.mark.parametrize("name", EACH)
def test_the_ruleset_is_the_guest_s(lab: Lab, name: str) -> None:
    said = without_clock(lab.sample(name).truth.command("nft list ruleset"))
    ours = [str(row["TEXT"]) for row in ask(lab.session(name), "nft", ruleset=True)]
    assert without_clock("\n".join(ours)).splitlines() == said.splitlines()
    assert len(ours) > 250


@pytest.mark.parametrize("name", EACH)
def test_rows_have_the_handles_and_counters_of_the_guest(lab: Lab, name: str) -> None:
    said = json.loads(lab.sample(name).truth.command("nft -j list ruleset"))["nftables"]
    rows = ask(lab.session(name), "nft")
    found = {(row["FAMILY"], row["TABLE"], row["KIND"], row["HANDLE"]): row for row in rows}
    counted = 0
    for item in said:
        ((kind, one),) = item.items()
        if kind == "metainfo":
            continue
        table = one["name"] if kind == "table" else one["table"]
        row = found[one["family"], table, kind, one["handle"]]
        assert row["NAME"] == (one["chain"] if kind == "rule" else one["name"])
        counters = [each["counter"] for each in one.get("expr", ()) if isinstance(each.get("counter"), dict)]
        for counter in counters:
            assert (row["PACKETS"], row["BYTES"]) == (counter["packets"], counter["bytes"])
            counted += 1
    assert counted > 5


def test_another_network_namespace_has_rules_of_its_own(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    pid = int(sample.truth.file("/run/elsewhere.pid"))
    with open_session(sample.dump, lab.store.root, ns_of=pid) as session:
        ours = [str(row["TEXT"]) for row in ask(session, "nft", ruleset=True)]
    assert ours == asked(sample)["elsewhere nft list ruleset"].splitlines()


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        assert ask(slow, "nft") == ask(lab.session("6.1 filters"), "nft")


def test_options_choose_tables(lab: Lab) -> None:
    session = lab.session("6.1 filters")
    assert {row["TABLE"] for row in ask(session, "nft", table=("nat",))} == {"nat"}
    assert {row["FAMILY"] for row in ask(session, "nft", family=("arp", "netdev"))} == {"arp", "netdev"}


@given(
    st.binary(max_size=200),
    st.sampled_from([kind.split()[-1] for kind in ("tables", "chains", "rules", "sets")]),
)
@settings(max_examples=100)
def test_no_message_is_too_odd(body: bytes, which: str) -> None:
    """What the kernel answers may be forged: it becomes text, or is reported."""
    kind = {"tables": nft.NEWTABLE, "chains": nft.NEWCHAIN, "rules": nft.NEWRULE, "sets": nft.NEWSET}[which]
    message = (len(body) + 16).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10) + body

    def answer(request: Any) -> bytes:
        return message if request.source == f"nf_tables {which}" else b""

    for entry in Ruleset(answer, str).entries():
        assert entry.lines


_KINDS = (
    "payload", "cmp", "meta", "ct", "bitwise", "lookup", "immediate", "nat", "log", "range", "exthdr",
    "hash", "fib",
    "byteorder", "dynset", "objref", "reject", "queue", "limit", "tproxy", "dup", "fwd", "rt", "socket",
    "unheard_of",
)  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_KINDS),
            st.dictionaries(st.integers(1, 12), st.binary(max_size=20) | st.binary(min_size=4, max_size=4)),
        ),
        max_size=8,
    ),
    st.sampled_from(sorted(nft.FAMILIES)),
)
@settings(max_examples=150)
def test_any_expressions_become_text(made: list[tuple[str, dict[int, bytes]]], family: int) -> None:
    from hybridbridge_vol.netlink.nftables.rule_text import rule_text

    expressions = [nft.Expression(kind, data) for kind, data in made]
    assert isinstance(rule_text(family, {}, lambda name, _like: f"@{name}", str, expressions), str)


def test_what_is_not_known_stays_in_the_text() -> None:
    from hybridbridge_vol.netlink.nftables.rule_text import rule_text

    unknown = [nft.Expression("novel", {1: b"\1\2"}), nft.Expression("counter", {1: bytes(8), 2: bytes(8)})]
    text = rule_text(nft.INET, {}, lambda name, _like: name, str, unknown)
    assert text == "[novel 1=0102] counter packets 0 bytes 0"
