"""The relocation lists: read from the end, two or three of them, and only what lies in the image."""

from __future__ import annotations

import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.kernel_file.relocations import Relocations, parse_relocations

START = 0xFFFFFFFF81000000
END = START + 0x1000000
ELF = b"\x7fELF" + b"\xff" * 997

sites = st.lists(st.integers(START, END - 4), min_size=1, max_size=20)


def written(*lists: list[int]) -> bytes:
    return b"".join(
        struct.pack(f"<{len(found) + 1}I", 0, *(site & 0xFFFFFFFF for site in found)) for found in lists
    )


def parse(tail: bytes, elf_end: int = len(ELF)) -> Relocations | None:
    return parse_relocations(ELF + tail, elf_end, START, END)


def as_lists(found: Relocations | None) -> list[list[int]]:
    assert found is not None
    return [found.abs64.tolist(), found.inverse32.tolist(), found.abs32.tolist()]


@given(
    sites,
    sites,
    sites,
    st.sampled_from([b"", b"\0", b"\0" * 11, b".shstrtab\0\0\0", b"\xff" * 7 + b"\0" * 8]),
)
def test_three_lists_are_distinguished_and_sorted(
    abs64: list[int], inverse: list[int], abs32: list[int], headers: bytes
) -> None:
    assert as_lists(parse(headers + written(abs64, inverse, abs32))) == [
        sorted(abs64),
        sorted(inverse),
        sorted(abs32),
    ]


@given(sites, sites, st.sampled_from([b"", b"\0", b"\0" * 11, b".shstrtab\0\0\0", b"\xff" * 7 + b"\0" * 8]))
def test_a_kernel_without_inverse_list_has_two(abs64: list[int], abs32: list[int], headers: bytes) -> None:
    assert as_lists(parse(headers + written(abs64, abs32))) == [sorted(abs64), [], sorted(abs32)]


@given(sites, sites)
def test_the_inverse_list_may_be_there_and_empty(abs64: list[int], abs32: list[int]) -> None:
    assert as_lists(parse(b"\xff" * 7 + written(abs64, [], abs32))) == [sorted(abs64), [], sorted(abs32)]


@pytest.mark.parametrize("outside", [START - 1, END, END + 0x100, 0xFFFFFFFF80000001])
def test_a_list_with_an_address_outside_of_the_image_is_none(outside: int) -> None:
    assert parse(written([START], [START + 4, outside, START + 8])) is None


def test_the_elf_itself_is_never_taken_for_lists() -> None:
    assert parse_relocations(written([START], [START]), len(written([START], [START])), START, END) is None


@given(st.binary(max_size=200), st.integers(0, 1300))
def test_random_tails_raise_nothing_else(tail: bytes, elf_end: int) -> None:
    found = parse(tail, elf_end)
    assert found is None or all(START <= site < END for part in as_lists(found) for site in part)


@given(sites, sites, sites)
def test_packed_relocations_come_back(abs32: list[int], inverse: list[int], abs64: list[int]) -> None:
    relocations = Relocations(array("Q", abs32), array("Q", inverse), array("Q", abs64))
    packed = relocations.pack()
    assert Relocations.unpack(packed) == relocations
    with pytest.raises((ValueError, RuntimeError)):
        Relocations.unpack(packed[:-5])
