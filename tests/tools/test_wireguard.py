"""wireguard: what the guest's own wg said right before the freeze."""

from __future__ import annotations

from typing import Any

import pytest
from filters import EACH, ask
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink.wireguard import parse_device

Lab = Any


def word(value: object, otherwise: str = "(none)") -> str:
    return otherwise if value is None else str(value)


@pytest.mark.parametrize("name", EACH)
def test_interfaces_and_peers_are_the_guest_s(lab: Lab, name: str) -> None:
    said = [line.split("\t") for line in lab.sample(name).truth.command("wg show all dump").splitlines()]
    ours = []
    for row in ask(lab.session(name), "wireguard", secrets=True):
        if row["RECEIVED"] is None:
            mark = "off" if row["FWMARK"] is None else f"{row['FWMARK']:#x}"
            ours.append(
                [row["IFACE"], word(row["PRIVATE"]), word(row["PUBLIC"]), str(row["PORT"] or 0), mark]
            )
            continue
        ours.append([
            row["IFACE"], row["PUBLIC"], word(row["PRESHARED"]), word(row["ENDPOINT"]),
            word(row["ALLOWED"]).replace(" ", ","), word(row["HANDSHAKE"], "0"), str(row["RECEIVED"]),
            str(row["SENT"]), word(row["KEEPALIVE"], "off"),
        ])  # fmt: skip
    # wg1 has no key: older kernels give it a port when it is set up
    assert [line for line in ours if line[0] == "wg0"] == [line for line in said if line[0] == "wg0"]
    assert {line[0] for line in ours} == {line[0] for line in said} == {"wg0", "wg1"}
    assert sum(line[0] == "wg0" for line in ours) == 3


def test_keys_are_hidden_unless_they_are_asked_for(lab: Lab) -> None:
    shown = ask(lab.session("6.1 filters"), "wireguard", secrets=True)
    hidden = str(ask(lab.session("6.1 filters"), "wireguard"))
    keys = [row[name] for row in shown for name in ("PRIVATE", "PRESHARED") if row[name]]
    assert len(keys) == 2
    assert not any(key in hidden for key in keys)
    assert hidden.count("(hidden: --secrets shows it)") == 2


def test_a_guest_without_interfaces_has_no_rows(lab: Lab) -> None:
    assert ask(lab.session("6.1 two CPUs"), "wireguard") == []


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        assert ask(slow, "wireguard") == ask(lab.session("6.1 filters"), "wireguard")


@given(st.binary(max_size=200))
def test_no_message_is_too_odd(body: bytes) -> None:
    import struct

    try:
        parse_device(body)
    except (struct.error, ValueError):
        pass
