"""Rules out of their expressions, as nft of Debian 13 printed them."""

from __future__ import annotations

import struct

import pytest

from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.messages import Expression
from hybridbridge_vol.netlink.nftables.rule_text import rule_text


def word(number: int) -> bytes:
    return number.to_bytes(4, "big")


def value(data: bytes) -> bytes:
    """NFTA_DATA_VALUE, nested."""
    return struct.pack("<HH", 4 + len(data), 1) + data + bytes(-len(data) % 4)


def text_of(*expressions: Expression) -> str:
    return rule_text(nft.IP, {}, lambda name, _like: f"@{name}", str, list(expressions))


def equals(register: int, data: bytes) -> Expression:
    return Expression("cmp", {1: word(register), 2: word(0), 3: value(data)})


SADDR = Expression("payload", {1: word(1), 2: word(1), 3: word(12), 4: word(4)})


@pytest.mark.parametrize(
    "attributes, text",
    [
        (
            {1: word(1), 2: word(2), 3: word(4), 4: word(4), 5: word(0xABC)},
            "jhash ip saddr mod 4 seed 0xabc 1",
        ),
        ({2: word(2), 4: word(4), 7: word(1)}, "symhash mod 4 1"),
    ],
)
def test_a_hash_is_a_number_of_the_machine(attributes: dict[int, bytes], text: str) -> None:
    """nft_hash.c stores a u32 into the register."""
    load = [SADDR] if 1 in attributes else []
    assert text_of(*load, Expression("hash", attributes), equals(2, (1).to_bytes(4, "little"))) == text


@pytest.mark.parametrize(
    "operation, kind, text",
    [
        (0, 44, "exthdr frag exists"),
        (1, 2, "tcp option maxseg exists"),
        (2, 131, "ip option lsrr exists"),
        (2, 200, "ip option 200 exists"),
        (3, 1, "sctp chunk init exists"),
        (4, 5, "dccp option 5 exists"),
    ],
)
def test_headers_and_options_as_a_whole(operation: int, kind: int, text: str) -> None:
    header = {1: word(1), 2: bytes([kind]), 3: word(0), 4: word(1), 5: word(1), 6: word(operation)}
    assert text_of(Expression("exthdr", header), equals(1, b"\1")) == text


@pytest.mark.parametrize(
    "operation, kind, offset, size, data, text",
    [
        (1, 2, 2, 2, b"\5\xb4", "tcp option maxseg size 1460"),
        (2, 148, 2, 2, b"\0\7", "ip option ra value 7"),
        (2, 7, 2, 1, b"\4", "ip option rr ptr 4"),
        (3, 0, 4, 4, b"\0\0\0\1", "sctp chunk data tsn 1"),
        (3, 1, 8, 4, b"\0\0\1\0", "sctp chunk init a-rwnd 256"),
    ],
)
def test_fields_of_options(operation: int, kind: int, offset: int, size: int, data: bytes, text: str) -> None:
    field = {1: word(1), 2: bytes([kind]), 3: word(offset), 4: word(size), 6: word(operation)}
    assert text_of(Expression("exthdr", field), equals(1, data)) == text
