"""xfrm: what the guest's own ip said right before the freeze."""

from __future__ import annotations

import re
from typing import Any

import pytest
from filters import EACH, ask
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink.xfrm import parse_policy, parse_state

Lab = Any


def blocks(text: str) -> list[str]:
    """What ip prints of each state or policy."""
    return [block for block in re.split(r"^(?=src )", text, flags=re.MULTILINE) if block.strip()]


@pytest.mark.parametrize("name", EACH)
def test_states_are_the_guest_s(lab: Lab, name: str) -> None:
    said = blocks(lab.sample(name).truth.command("ip -d -s xfrm state"))
    rows = ask(lab.session(name), "xfrm", secrets=True)
    assert len(rows) == len(said) >= 2
    for block, row in zip(said, rows, strict=True):
        assert block.startswith(f"src {row['SOURCE']} dst {row['DESTINATION']}\n")
        head = re.search(r"proto (\w+) spi (0x\w+)\(\d+\) reqid (\d+)\(\w+\) mode (\w+)", block)
        assert head is not None
        assert (row["PROTO"], row["SPI"], row["REQID"] or 0, row["MODE"]) == (
            head[1], int(head[2], 16), int(head[3]), head[4],
        )  # fmt: skip
        algorithms = re.findall(
            r"^\t(auth-trunc|auth|enc|aead|comp) (\S+) (0x\w+)?.*?(\d+)?$", block, re.MULTILINE
        )
        said_text = []
        for kind, algorithm, key, bits in algorithms:
            has_bits = kind in ("auth-trunc", "aead")
            said_text.append(" ".join(filter(None, (kind, algorithm, key, bits if has_bits else ""))))
        assert row["ALGORITHMS"] == "; ".join(said_text)
        encap = re.search(r"encap type (\S+) sport (\d+) dport (\d+)", block)
        assert row["ENCAP"] == (" ".join(encap.groups()) if encap else None)
        mark = re.search(r"^\tmark (\S+)", block, re.MULTILINE)
        assert row["MARK"] == (mark[1] if mark else None)
        interface = re.search(r"if_id (0x\w+)", block)
        assert row["IF_ID"] == (int(interface[1], 16) if interface else None)
        spent = re.search(r"(\d+)\(bytes\), (\d+)\(packets\)\n\t  add", block)
        assert spent is not None
        assert (str(row["BYTES"]), str(row["PACKETS"])) == spent.groups()
        assert ("esn" in (row["FLAGS"] or "")) == ("flag esn" in block)
        if "limit: soft 1000000(bytes)" in block:
            assert row["LIMITS"] == "soft-bytes 1000000 hard-add-seconds 86400"
        else:
            assert row["LIMITS"] is None


@pytest.mark.parametrize("name", EACH)
def test_policies_are_the_guest_s(lab: Lab, name: str) -> None:
    said = blocks(lab.sample(name).truth.command("ip -d -s xfrm policy"))
    rows = ask(lab.session(name), "xfrm", policy=True)
    assert len(rows) == len(said) >= 3
    for block, row in zip(said, rows, strict=True):
        first = block.splitlines()[0]
        selector = re.sub(r" uid \d+", "", first).strip()
        assert row["SELECTOR"] == selector
        head = re.search(r"dir (\w+) action (\w+) index (\d+) priority (\d+)", block)
        assert head is not None
        assert (row["DIR"], row["ACTION"], str(row["INDEX"]), str(row["PRIORITY"])) == head.groups()
        template = re.search(
            r"tmpl src (\S+) dst (\S+)\n\t\tproto (\w+) spi \S+ reqid (\d+)\(\w+\) mode (\w+)", block
        )
        if template is None:
            assert row["TEMPLATES"] is None
        else:
            source, target, protocol, reqid, mode = template.groups()
            level = " level use" if "level use" in block else ""
            assert row["TEMPLATES"] == (
                f"src {source} dst {target} proto {protocol} reqid {reqid} mode {mode}{level}"
            )


def test_keys_are_hidden_unless_they_are_asked_for(lab: Lab) -> None:
    hidden = str(ask(lab.session("6.1 filters"), "xfrm"))
    assert "0x0102030405" in str(ask(lab.session("6.1 filters"), "xfrm", secrets=True))
    assert "0102030405" not in hidden
    assert "bits, hidden" in hidden


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        for policy in (False, True):
            assert ask(slow, "xfrm", policy=policy) == ask(lab.session("6.1 filters"), "xfrm", policy=policy)


def test_what_the_guest_had_not_loaded_is_added(lab: Lab) -> None:
    session = lab.session("6.1 two CPUs")
    assert not session.bridge.space.modules.is_listed("xfrm_user")
    assert ask(session, "xfrm") == ask(session, "xfrm", policy=True) == []


@given(st.binary(max_size=600))
def test_no_message_is_too_odd(body: bytes) -> None:
    import struct

    for parse in (parse_state, parse_policy):
        try:
            parse(body)
        except (struct.error, ValueError):
            pass
