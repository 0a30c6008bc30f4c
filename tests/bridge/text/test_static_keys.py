"""Static branches of the twin are set by the snapshot's keys."""

from __future__ import annotations

import struct

import pytest

from hybridbridge_vol.bridge.text.static_keys import ENTRY_SIZE, read_jump_labels

NOP5, NOP2 = bytes.fromhex("0f1f440000"), bytes.fromhex("6690")
TABLE, KEY, SIZE = 0x200, 0x300, 0x400


def text_with(site: int, code: bytes, target: int, likely: bool) -> bytes:
    """A kernel image with one static branch."""
    image = bytearray(SIZE)
    image[site : site + len(code)] = code
    struct.pack_into("<iiq", image, TABLE, site - TABLE, target - (TABLE + 4), (KEY - (TABLE + 8)) | likely)
    return bytes(image)


@pytest.mark.parametrize(
    ("code", "likely", "enabled", "expected"),
    [
        (NOP5, False, 0, None),
        (NOP5, False, 1, "e9 7b 00 00 00"),
        (NOP5, False, -1, None),  # being switched, as the kernel counts it: not yet enabled
        (NOP5, True, 1, None),
        (NOP5, True, 0, "e9 7b 00 00 00"),
        (bytes.fromhex("e97b000000"), False, 1, None),
        (bytes.fromhex("e97b000000"), False, 0, NOP5.hex(" ")),
    ],
)
def test_a_branch_is_set_where_key_and_likelihood_ask_for_it(
    code: bytes, likely: bool, enabled: int, expected: str | None
) -> None:
    labels = read_jump_labels(text_with(0x40, code, 0xC0, likely), TABLE, TABLE + ENTRY_SIZE, TABLE)
    patches = [(offset, patch.hex(" ")) for offset, patch in labels.patches(0, SIZE, lambda _key: enabled)]
    assert patches == ([] if expected is None else [(0x40, expected)])


def test_a_short_branch_stays_short() -> None:
    labels = read_jump_labels(text_with(0x40, NOP2, 0x60, False), TABLE, TABLE + ENTRY_SIZE, TABLE)
    assert list(labels.patches(0, SIZE, lambda _key: 1)) == [(0x40, bytes.fromhex("eb1e"))]


def test_only_the_sites_of_a_range_are_asked_for() -> None:
    labels = read_jump_labels(text_with(0x40, NOP5, 0xC0, False), TABLE, TABLE + ENTRY_SIZE, TABLE)
    assert list(labels.patches(0x41, SIZE, lambda _key: 1)) == []
    assert list(labels.patches(0, 0x40, lambda _key: 1)) == []


def test_a_key_that_cannot_be_read_leaves_its_branch() -> None:
    labels = read_jump_labels(text_with(0x40, NOP5, 0xC0, False), TABLE, TABLE + ENTRY_SIZE, TABLE)
    assert list(labels.patches(0, SIZE, lambda _key: None)) == []


def test_code_that_is_neither_a_branch_nor_a_nop_is_not_a_site() -> None:
    image = text_with(0x40, b"\xc3\xcc\xcc\xcc\xcc", 0xC0, False)
    assert len(read_jump_labels(image, TABLE, TABLE + ENTRY_SIZE, TABLE).codes) == 0


@pytest.mark.parametrize("vaddr", [0xFFFFFFFF81000000, 0xFFFFFFFF9E600000])
def test_entries_of_three_addresses_are_read_as_entries_of_distances_are(vaddr: int) -> None:
    """Before 4.20. Held by this form only: no such kernel was tried."""
    image = bytearray(text_with(0x40, NOP5, 0xC0, True))
    struct.pack_into("<QQQ", image, TABLE, vaddr + 0x40, vaddr + 0xC0, vaddr + KEY | 1)
    old = read_jump_labels(bytes(image), TABLE, TABLE + 24, TABLE, vaddr)
    assert old == read_jump_labels(text_with(0x40, NOP5, 0xC0, True), TABLE, TABLE + ENTRY_SIZE, TABLE)
    assert list(old.patches(0, SIZE, lambda _key: 0)) == [(0x40, bytes.fromhex("e97b000000"))]
