"""Branches on CPU features, found by the instructions that the compiler emits for them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hybridbridge_vol.bridge.text.cpu_features import read_feature_branches

Lab = Any

TEXT = 0xFFFF_FFFF_8100_0000
TEXT_END, SIZE = 0x1000, 0x3000
SITE, YES, NO, TEST, BYTE, MASK = 0x100, 0x105, 0x180, 0x2000, 0x2800, 0x10


def kernel(absolute: bool) -> bytearray:
    """`_text` on: a static_cpu_has() at SITE and its test at TEST."""
    flat = bytearray(b"\x90" * SIZE)
    flat[SITE : SITE + 5] = struct.pack("<Bi", 0xE9, TEST - SITE - 5)
    if absolute:
        test = b"\xf6\x04\x25" + struct.pack("<I", (TEXT + BYTE) & 0xFFFFFFFF)
    else:
        test = b"\xf6\x05" + struct.pack("<i", BYTE - TEST - 7)
    test += bytes([MASK])
    place = TEST + len(test)
    test += b"\x0f\x85" + struct.pack("<i", YES - place - 6)
    test += b"\xe9" + struct.pack("<i", NO - place - 11)
    flat[TEST : TEST + len(test)] = test
    return flat


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("byte", "target"), [(MASK, YES), (0xFF, YES), (0, NO), (0xFF ^ MASK, NO)])
def test_a_branch_leads_to_the_target_that_the_bit_selects(absolute: bool, byte: int, target: int) -> None:
    branches = read_feature_branches(kernel(absolute), TEXT, TEXT_END)
    asked: list[int] = []
    patches = list(branches.patches(0, TEXT_END, lambda place: asked.append(place) or byte))  # type: ignore[func-returns-value]
    assert patches == [(SITE, struct.pack("<Bi", 0xE9, target - SITE - 5))]
    assert asked == [BYTE]


def test_a_branch_whose_bit_cannot_be_read_stays_as_it_is() -> None:
    assert (
        list(read_feature_branches(kernel(False), TEXT, TEXT_END).patches(0, TEXT_END, lambda _place: None))
        == []
    )


def test_only_branches_of_the_range_are_given() -> None:
    branches = read_feature_branches(kernel(False), TEXT, TEXT_END)
    assert list(branches.patches(SITE + 1, TEXT_END, lambda _place: 0)) == []
    assert list(branches.patches(0, SITE, lambda _place: 0)) == []


def test_a_kernel_without_any_has_none() -> None:
    assert list(read_feature_branches(bytearray(SIZE), TEXT, TEXT_END).sites) == []


def test_real_kernels_have_hundreds(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    branches = session.bridge.prepared.features
    assert len(branches.sites) > 100
    assert {
        session.bridge.describe(session.bridge.layout.text_vaddr + place).split("+")[0]
        for place in branches.places
    } <= {
        "twin boot_cpu_data",
        "twin new_cpu_data",
    }
