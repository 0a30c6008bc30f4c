"""Rules of audit out of any bytes; tests/tools/test_security.py holds them against auditctl."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.netlink import audit
from hybridbridge_vol.netlink.messages import HEADER

_RULE, _STATE = audit.RULES.kind, audit.STATE.kind
Fields = list[tuple[int, int, int]]


def message(kind: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, 0, 1, 0) + body


def body(fields: Fields, texts: bytes = b"", action: int = 2, count: int | None = None) -> bytes:
    """`struct audit_rule_data` of the list "exit"; fields as number, value, operator."""
    columns = [[field[at] for field in fields] + [0] * (audit.MAX_FIELDS - len(fields)) for at in range(3)]
    head = struct.pack("<3I", 4, action, len(fields) if count is None else count)
    arrays = (struct.pack("<64I", *column) for column in ([1 << 2] + [0] * 63, *columns))
    return head + b"".join(arrays) + struct.pack("<I", len(texts)) + texts


def texts_of(data: bytes) -> list[str]:
    return [
        str(rule) if isinstance(rule, ParseError) else audit.rule_text(rule, lambda number: "")
        for rule, _source in audit.rules(data)
    ]


def test_a_rule_without_a_name_for_its_call_has_its_number() -> None:
    assert texts_of(message(_RULE, body([(1, 1 << 31, 0x60000000), (210, 3, 0x40000000)], b"a\x01b"))) == [
        "-a always,exit -S 2 -F uid>=-2147483648 -F key=a -F key=b"
    ]


def test_what_no_kernel_says_is_shown_as_numbers() -> None:
    odd = [(999, 7, 5), (11, 1, 0x40000000), (111, 200, 0x30000000), (106, 0, 0x40000000)]
    assert texts_of(message(_RULE, body(odd))) == [
        "-a always,exit -F arch=0x1 -S 2 -F f999?0x5?7 -C ?!=200 -F perm="
    ]


def test_a_rule_that_makes_no_sense_says_so_and_costs_no_other() -> None:
    whole = message(_RULE, body([(0, 5, 0x40000000)]))
    for bad in (
        body([(210, 100, 0x40000000)], b"too short   "),
        body([], count=65),
        body([], action=3),
        body([])[:100],
    ):
        first, second = texts_of(message(_RULE, bad) + whole)
        assert "audit rules makes no sense" in first and second == "-a always,exit -S 2 -F pid=5"
    ((state, _source),) = audit.state(message(_STATE, bytes(39)))
    assert isinstance(state, ParseError)


@given(st.binary(max_size=1200), st.sampled_from([_RULE, _STATE]))
def test_any_bytes_give_rules_or_say_that_they_are_none(data: bytes, kind: int) -> None:
    assert all(isinstance(text, str) for text in texts_of(message(kind, data)))
    list(audit.state(message(kind, data)))


@given(st.lists(st.tuples(*[st.integers(0, (1 << 32) - 1)] * 3), max_size=8), st.binary(max_size=64))
def test_any_fields_give_one_line_each(fields: Fields, texts: bytes) -> None:
    assert len(texts_of(message(_RULE, body(fields, texts)))) == 1
