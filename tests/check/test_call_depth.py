"""Call-depth tracking taken back: exactly where the kernel's own instruction stands, and nowhere else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.check.call_depth import SIZE, Counting, lead_calls_behind

VADDR = 0xFFFF_FFFF_8100_0000
COUNTER = 0x35010
"""A per-CPU variable of a section that is linked at 0."""


def counting_at(vaddr: int, counter: int = COUNTER) -> bytes:
    return b"\x65\x48\xc1\x3d" + (counter - vaddr - SIZE & 0xFFFFFFFF).to_bytes(4, "little") + b"\x05"


def test_the_kernels_own_template_says_what_is_counted() -> None:
    assert Counting.of(counting_at(VADDR + 0x1000), VADDR + 0x1000) == Counting(COUNTER)


@pytest.mark.parametrize(
    "template", [b"", b"\x90" * SIZE, counting_at(VADDR)[:-1], counting_at(VADDR) + b"\x90"]
)
def test_a_template_of_another_form_counts_nothing(template: bytes) -> None:
    assert Counting.of(template, VADDR) is None


def test_it_is_taken_out_where_nops_are_expected_and_it_names_the_counter() -> None:
    expected = bytearray(b"\x90" * 64 + b"\xcc" * 64)
    found = expected.copy()
    found[7:16] = counting_at(VADDR + 7)
    found[32:41] = counting_at(VADDR + 32, COUNTER + 8)  # another variable
    found[80:89] = counting_at(VADDR + 80)  # no nops there
    before = found.copy()
    assert Counting(COUNTER).take_out(expected, found, VADDR) == 1
    assert found[7:16] == b"\x90" * SIZE
    assert found[16:] == before[16:]


@given(st.binary(max_size=64), st.lists(st.integers(0, 80)))
def test_only_calls_that_are_counted_change(code: bytes, sites: list[int]) -> None:
    found = bytearray(code)
    lead_calls_behind(sites, found, VADDR, lambda _vaddr: False)
    assert found == code


def test_a_counted_call_leads_to_the_function() -> None:
    found = bytearray(b"\x90\xe8" + struct.pack("<i", 0x100 - SIZE) + b"\x90" * 8)
    lead_calls_behind([1], found, VADDR, lambda vaddr: vaddr == VADDR + 6 + 0x100 - SIZE)
    assert found[1:6] == b"\xe8" + struct.pack("<i", 0x100)
