"""Attributes of netlink messages: none is left out, whatever it is."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.netlink.attribute_text import Schema, joined
from hybridbridge_vol.netlink.inet_diag import parse_inet_diag, parse_smc_diag
from hybridbridge_vol.netlink.link_attributes import KINDS, LINK, PORTS, UNKNOWN
from hybridbridge_vol.netlink.messages import attribute_list, parsed
from hybridbridge_vol.netlink.other_diag import parse_tipc_diag, parse_vsock_diag, parse_xdp_diag
from hybridbridge_vol.netlink.route_attributes import ADDRESS, NEIGHBOUR, ROUTE, RULE, route_pairs
from hybridbridge_vol.netlink.rtnetlink import parse_link, parse_net_route, parse_rule
from hybridbridge_vol.netlink.unix_diag import parse_unix_diag

SCHEMAS = [LINK, ROUTE, RULE, ADDRESS, NEIGHBOUR, UNKNOWN, *KINDS.values(), *PORTS.values()]
ATTRIBUTES = st.lists(st.tuples(st.integers(0, 90), st.binary(max_size=40)), max_size=12)


def encoded(found: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(
        struct.pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4) for kind, data in found
    )


def name(ifindex: int) -> str:
    return f"if{ifindex}"


@given(ATTRIBUTES)
def test_attributes_are_read_back_in_their_order(found: list[tuple[int, bytes]]) -> None:
    assert list(attribute_list(encoded(found))) == found


@given(st.sampled_from(SCHEMAS), ATTRIBUTES)
def test_every_attribute_but_padding_is_shown(schema: Schema, found: list[tuple[int, bytes]]) -> None:
    pairs = schema.pairs(found, name)
    assert len(pairs) == sum(kind not in schema._padding for kind, _data in found)
    assert all(key for key, _value in pairs)


def test_an_unknown_attribute_is_named_by_its_number() -> None:
    assert (
        joined(ROUTE.pairs([(77, b"\x0a\x00"), (30, b"\x07\0\0\0")], name)) == "attribute 77: 0a00; nhid: 7"
    )
    assert UNKNOWN.pairs([(3, b"")], name) == [("attribute 3", "(empty)")]


@given(ATTRIBUTES)
def test_an_encapsulation_of_any_kind_is_shown(found: list[tuple[int, bytes]]) -> None:
    shown = [key for key, _value in route_pairs(tuple(found), name)]
    assert ("encap" in shown) == any(kind in (21, 22) for kind, _data in found)


@pytest.mark.parametrize(
    "words, expected",
    [((2, 4, 1400), "mtu lock 1400"), ((2, 0, 1400), "mtu 1400"), ((5, 0, 400), "rttvar 100ms")],
)
def test_metrics_are_written_as_ip_writes_them(words: tuple[int, int, int], expected: str) -> None:
    kind, lock, value = words
    inner = encoded([(kind, struct.pack("<I", value))] + [(1, struct.pack("<I", lock))] * bool(lock))
    assert ROUTE.pairs([(8, inner)], name) == [("metrics", expected)]


@given(st.binary(max_size=200), st.sampled_from([
    parse_unix_diag, parse_inet_diag, parse_smc_diag, parse_vsock_diag, parse_xdp_diag, parse_tipc_diag,
    parse_link, parse_net_route, parse_rule,
]))  # fmt: skip
def test_no_message_brings_a_parser_down(body: bytes, parse: object) -> None:
    message = struct.pack("<IHHII", 16 + len(body), 20, 2, 1, 0) + body
    assert len(list(parsed("any", (20,), message, parse))) == 1  # type: ignore[arg-type]
