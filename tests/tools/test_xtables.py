"""xtables: what the guest's own iptables-save said right before the freeze."""

from __future__ import annotations

from typing import Any

import pytest
from filters import EACH, ask, asked
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.xtables import entries as xt
from hybridbridge_vol.xtables.entries import Entry, Part
from hybridbridge_vol.xtables.rule_text import MATCHES, rule_text
from hybridbridge_vol.xtables.targets import TARGETS

Lab = Any


def saved(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("command, option", [("iptables", "inet"), ("ip6tables", "inet6")])
def test_tables_are_the_guest_s(lab: Lab, name: str, command: str, option: str) -> None:
    said = saved(lab.sample(name).truth.command(f"{command}-legacy-save -c"))
    ours = [str(row["TEXT"]) for row in ask(lab.session(name), "xtables", save=True, **{option: True})]
    assert ours == said
    assert len(said) > 15


@pytest.mark.parametrize("name", EACH)
def test_rows_have_the_counters(lab: Lab, name: str) -> None:
    rows = ask(lab.session(name), "xtables", table=("filter",), inet=True)
    chains = {row["CHAIN"]: row["RULE"] for row in rows if row["NUMBER"] is None}
    assert chains["FORWARD"] == "DROP"
    assert chains["SERVICES"] == "-"
    assert any(row["PACKETS"] == 12 and row["BYTES"] == 3456 for row in rows)


def test_another_network_namespace_has_tables_of_its_own(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    pid = int(sample.truth.file("/run/elsewhere.pid"))
    with open_session(sample.dump, lab.store.root, ns_of=pid) as session:
        ours = [str(row["TEXT"]) for row in ask(session, "xtables", save=True, inet=True)]
    assert ours == saved(asked(sample)["elsewhere iptables-legacy-save -c"])
    assert any("--dport 7777 -j DROP" in line for line in ours)


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        assert ask(slow, "xtables") == ask(lab.session("6.1 filters"), "xtables")


def test_a_guest_without_tables_has_no_rows(lab: Lab) -> None:
    assert ask(lab.session("6.1 two CPUs"), "xtables") == []


@given(st.sampled_from([xt.PF_INET, xt.PF_INET6]), st.binary(max_size=500))
def test_no_table_is_too_odd(family: int, data: bytes) -> None:
    try:
        found = list(xt.entries(family, data))
    except ParseError:
        return
    info = xt.TableInfo(31, (0,) * 5, (0,) * 5, len(found), len(data))
    for chain in xt.chains(info, found)[0]:
        for entry in chain.rules:
            rule_text(entry, family, {})


@given(
    st.sampled_from([*MATCHES, "novel"]), st.sampled_from([*TARGETS, "", "NOVEL"]), st.integers(0, 4),
    st.binary(max_size=400), st.sampled_from([xt.PF_INET, xt.PF_INET6]),
)  # fmt: skip
def test_any_match_and_target_become_text(
    match: str, target: str, revision: int, data: bytes, family: int
) -> None:
    zero = bytes(4 if family == xt.PF_INET else 16)
    entry = Entry(
        0,
        zero,
        zero,
        zero,
        zero,
        "",
        "",
        0,
        0,
        0,
        (Part(match, revision, data),),
        Part(target, revision, data),
        0,
        0,
    )
    text = rule_text(entry, family, {})
    assert f"-m {match}" in text or (match, "-m state" in text) == ("conntrack", True)


def test_what_is_not_known_stays_in_the_text() -> None:
    zero = bytes(4)
    entry = Entry(
        0,
        zero,
        zero,
        zero,
        zero,
        "",
        "",
        6,
        0,
        0,
        (Part("novel", 2, b"\1\2"),),
        Part("NOVEL", 0, b"\3"),
        0,
        0,
    )
    assert rule_text(entry, xt.PF_INET, {}) == "-p tcp -m novel [revision 2: 0102] -j NOVEL [revision 0: 03]"
