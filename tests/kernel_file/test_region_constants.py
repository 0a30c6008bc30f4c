"""Addresses of a kernel's memory regions in its code: found as whole operands, moved in all their forms."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.kernel_file.region_constants import ALIGNMENT, Bases, find_region_constants
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import START_KERNEL_MAP, U64

TEXT = 0xFFFFFFFF81000000
LINKED = Bases(0xFFFF888000000000, 0xFFFFC90000000000, 0xFFFFEA0000000000)
BEFORE = LINKED._replace(page_offset=0xFFFF880000000000)

MOVABS_RAX, RET = b"\x48\xb8", b"\xc3"


def kernel(*functions: bytes, variables: tuple[str, ...] = ()) -> tuple[bytes, Symbols]:
    """A kernel's text with these functions, each at a multiple of 64 bytes."""
    text = b"".join(function.ljust(64, b"\x90") for function in functions)
    symbols = [(TEXT + 64 * number, "T", f"f{number}") for number in range(len(functions))]
    symbols += [(TEXT, "T", "_text"), (TEXT + len(text), "T", "_etext"), (TEXT + len(text), "B", "_end")]
    symbols += [(TEXT + len(text), "D", name) for name in variables]
    return text, Symbols.build(symbols)


def constant(value: int) -> bytes:
    """`movabs rax, VALUE; ret`"""
    return MOVABS_RAX + struct.pack("<Q", value & U64) + RET


def moved(value: int, bases: Bases) -> int:
    """What the constant becomes in a kernel whose regions are there."""
    found = find_region_constants(*kernel(constant(LINKED.page_offset), constant(value)))
    assert found is not None
    return int.from_bytes(dict(found.moved(bases))[64 + len(MOVABS_RAX)], "little")


bases = st.builds(
    lambda *at: Bases(*(0xFFFFF << 44 | number * step for number, step in zip(at, ALIGNMENT, strict=True))),
    *(st.integers(0, (7 << 40) // step) for step in ALIGNMENT),
)
SHIFTED = (
    LINKED.page_offset,
    -LINKED.page_offset & U64,
    LINKED.vmemmap,
    LINKED.vmalloc,
    LINKED.page_offset >> 3 | 7 << 61,
    START_KERNEL_MAP - LINKED.page_offset,
)


@given(bases, st.integers(-4096, 1 << 32))
def test_an_address_of_a_region_moves_with_it(at: Bases, added: int) -> None:
    assert moved(LINKED.page_offset + added, at) == (at.page_offset + added) & U64
    assert moved(LINKED.vmemmap + added, at) == (at.vmemmap + added) & U64
    assert moved(LINKED.vmalloc + added, at) == (at.vmalloc + added) & U64


@given(bases)
def test_distances_move_with_their_regions(at: Bases) -> None:
    assert moved(-LINKED.page_offset, at) == -at.page_offset & U64
    assert moved(-LINKED.vmemmap, at) == -at.vmemmap & U64
    assert moved(START_KERNEL_MAP - LINKED.page_offset, at) == START_KERNEL_MAP - at.page_offset & U64


@given(bases, st.integers(0, (1 << 40) - 1))
def test_parts_of_indexes_give_the_right_address_in_the_end(at: Bases, page: int) -> None:
    scaled = moved((LINKED.page_offset - (1 << 64)) >> 3, at)
    assert (scaled + page) * 8 & U64 == (at.page_offset + 8 * page) & U64
    number = moved((LINKED.vmemmap - (1 << 64)) >> 6, at)
    assert (number + page) * 64 & U64 == (at.vmemmap + 64 * page) & U64
    both = moved(LINKED.page_offset - (LINKED.vmemmap << 6), at)
    assert ((at.vmemmap + 64 * page << 6) + both) & U64 == (at.page_offset + (page << 12)) & U64


@given(
    bases, st.sampled_from([LINKED.page_offset, -LINKED.page_offset & U64, LINKED.vmemmap, LINKED.vmalloc])
)
def test_a_constant_that_is_shifted_into_place_moves(at: Bases, value: int) -> None:
    count = (value & -value).bit_length() - 1
    # mov r9d, NUMBER; mov rsi, cr2; shl r9, COUNT; ret
    code = (
        b"\x41\xb9" + struct.pack("<I", value >> count) + b"\x0f\x20\xd6\x49\xc1\xe1" + bytes([count]) + RET
    )
    found = find_region_constants(*kernel(code))
    assert found is not None
    patched = bytearray(code)
    for offset, operand in found.moved(at):
        patched[offset : offset + len(operand)] = operand
    (moved_number,), shift = struct.unpack_from("<I", patched, 2), patched[12]
    assert moved_number << shift & U64 == moved(value, at)
    assert patched[:2] + patched[6:12] == code[:2] + code[6:12]


@given(bases)
def test_the_vmalloc_area_ends_where_the_memory_map_begins(at: Bases) -> None:
    end = LINKED.vmalloc + (32 << 40)
    assert moved(end - 1, at) == (at.vmemmap - 1) & U64
    assert moved((32 << 40) - 2, at) == (at.vmemmap - at.vmalloc - 2) & U64


@pytest.mark.parametrize("linked", [LINKED, BEFORE])
def test_where_the_direct_map_is_linked_is_told_by_the_code(linked: Bases) -> None:
    found = find_region_constants(*kernel(*[constant(linked.page_offset)] * 3))
    assert found is not None
    assert found.linked == linked
    assert len(found.words) == 3


def test_other_numbers_and_bytes_that_only_look_alike_stay() -> None:
    masks = [0xFFFFFFFFFFFFF000, 0xFFFFFF8000000000, 0x7FFFFFFFF000, 0xDEAD000000000100, 1 << 47]
    # the same bytes across two instructions: add [rax], al; mov r8b, 0x88; ...
    across = b"\x00\x48" + MOVABS_RAX + b"\x48\xb8" + struct.pack("<Q", LINKED.page_offset)[:6] + RET
    found = find_region_constants(*kernel(*map(constant, masks), across))
    assert found is not None
    assert found.words == found.shifted == []


def test_a_kernel_whose_regions_are_variables_has_no_constants() -> None:
    assert (
        find_region_constants(*kernel(constant(LINKED.page_offset), variables=("page_offset_base",))) is None
    )


@given(st.sampled_from(LINKED), st.integers(-4096, 1 << 32))
def test_a_constant_of_regions_that_stay_stays(base: int, added: int) -> None:
    assert moved(base + added, LINKED) == (base + added) & U64
