"""Statements that send packets elsewhere, as nft of Debian sid printed them."""

from __future__ import annotations

import pytest

from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.translations import translation_text

_NETDEV = 5
_REGISTERS = {1: "10.4.0.9", 2: '"p1"'}


def operand(register: int | None, _kind: str) -> str | None:
    return None if register is None else _REGISTERS[register]


def word(number: int) -> bytes:
    return number.to_bytes(4, "big")


@pytest.mark.parametrize(
    "family, data, text",
    [
        (_NETDEV, {2: word(2)}, 'dup to "p1"'),
        (nft.INET, {1: word(1)}, "dup to 10.4.0.9"),
        (nft.INET, {1: word(1), 2: word(2)}, 'dup to 10.4.0.9 device "p1"'),
    ],
)
def test_packets_are_duplicated_to_an_address_or_to_an_interface(
    family: int, data: dict[int, bytes], text: str
) -> None:
    assert translation_text("dup", data, family, operand) == text
