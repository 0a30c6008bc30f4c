"""Options of disciplines and classes: bytes of a Debian guest (Linux 7.2), and what its own tc printed."""

from __future__ import annotations

import struct

import pytest

from hybridbridge_vol.netlink.traffic_options import options_text


def attribute(number: int, data: str) -> bytes:
    """As netlink has it, with its padding."""
    content = bytes.fromhex(data)
    return struct.pack("<HH", 4 + len(content), number) + content + bytes(-len(content) % 4)


_QUANTA = "08000400ea05000008000400ea050000"
_ETS = [(1, "03"), (2, "01"), (3, _QUANTA), (5, "0500060002000000" * 16)]
_CAKE = [
    (2, "d012130000000000"), (5, "07000000"), (7, "a0860100"), (8, "88130000"), (10, "00000000"),
    (9, "00000000"), (15, "00000000"), (16, "00000000"), (11, "01000000"), (3, "00000000"), (13, "00000000"),
    (6, "00000000"), (12, "00000000"), (4, "00000000"), (14, "00000000"), (17, "01000000"), (18, "00000000"),
]  # fmt: skip
_CURVES = [(1, "000000000000000048e80100"), (2, "000000000000000048e80100"), (3, "000000000000000090d00300")]


@pytest.mark.parametrize(
    "kind, options, words",
    [
        ("ets", _ETS, ["bands: 3", "strict: 1", "quanta: 1514 1514", "priomap:" + " 2" * 16]),
        (
            "cake", _CAKE,
            ["bandwidth: 1250000", "diffserv: diffserv3", "flowmode: triple-isolate", "nat: true",
             "wash: false", "ingress: false", "ack-filter: no", "split_gso: true", "rtt: 100000", "raw: true",
             "atm: noatm"],
        ),
        (
            "hfsc", _CURVES,
            ["sc: m1 0 d 0us m2 125000", "ls: m1 0 d 0us m2 125000", "ul: m1 0 d 0us m2 250000"],
        ),
    ],
)  # fmt: skip
def test_disciplines_have_names_for_what_they_say(
    kind: str, options: list[tuple[int, str]], words: list[str]
) -> None:
    said = options_text(kind, b"".join(attribute(*one) for one in options), str).split("; ")
    assert set(words) <= set(said)
    assert not [word for word in said if word.startswith("attribute ")]


def test_the_discipline_hfsc_has_a_default_class() -> None:
    assert options_text("hfsc", bytes.fromhex("0100"), str) == "default: 0x1"
