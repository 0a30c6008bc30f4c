"""What code means apart from its padding: every writing of the same is one, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.check.instructions import Reader, Thunks

VADDR = 0xFFFF_FFFF_8100_0000
THUNK, RETURN_THUNK = VADDR + 0x1000, VADDR + 0x2000
NOPS = [
    bytes.fromhex(text)
    for text in ("90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "66666690", "0f1f8000000000")
]


@pytest.fixture
def reader() -> Reader:
    return Reader(Thunks({THUNK: "rax"}, frozenset([RETURN_THUNK])))


def relative(opcode: str, size: int, target: int) -> bytes:
    """A branch placed at VADDR."""
    code = bytes.fromhex(opcode)
    return code + (target - VADDR - len(code) - size).to_bytes(size, "little", signed=True)


@given(st.lists(st.sampled_from(NOPS)), st.lists(st.sampled_from(NOPS)))
def test_nops_mean_nothing_wherever_they_stand(before: list[bytes], behind: list[bytes]) -> None:
    reader = Reader(Thunks({}, frozenset()))
    push, pop = b"\x50", b"\x58"
    code = b"".join([push, *before, pop, *behind])
    assert reader.meaning(code, VADDR) == ("push rax", "pop rax")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (relative("e9", 4, VADDR + 5), b"\x0f\x1f\x44\x00\x00"),
        (b"\xeb\x03\xcc\xcc\xcc", b"\x90" * 5),
        (b"\xeb\x03\xeb\x01\xcc", b"\x90" * 5),
        (relative("e9", 4, RETURN_THUNK), b"\xc3\xcc\xcc\xcc\xcc"),
        (relative("e8", 4, THUNK), b"\xff\xd0\x0f\x1f\x00"),
        (relative("e8", 4, THUNK), b"\x0f\xae\xe8\xff\xd0"),
        (relative("e9", 4, THUNK), b"\xff\xe0\xcc\xcc\xcc"),
        (relative("e9", 4, VADDR + 0x40), relative("eb", 1, VADDR + 0x40) + b"\xcc" * 3),
        (b"\xf0\xff\x00", b"\x3e\xff\x00"),
        (b"\xf3\x0f\x1e\xfa", b"\x0f\x1f\x40\xd6"),
    ],
    ids=[
        "a jump to what follows",
        "a short jump over int3",
        "a jump over a like one",
        "the return thunk",
        "a call by a thunk",
        "a fence before an indirect call",
        "a jump by a thunk",
        "a long and a short jump",
        "a lock prefix",
        "a sealed endbr64",
    ],
)
def test_two_writings_of_the_same_mean_the_same(reader: Reader, one: bytes, other: bytes) -> None:
    assert reader.meaning(one, VADDR) == reader.meaning(other, VADDR)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (relative("e8", 4, VADDR + 0x40), relative("e9", 4, VADDR + 0x40)),
        (relative("e8", 4, THUNK), b"\xff\xd1\x90\x90\x90"),
        (relative("e9", 4, RETURN_THUNK + 16), b"\xc3\xcc\xcc\xcc\xcc"),
        (b"\xeb\x01\xcc\xcc\x90", b"\x90" * 5),
        (b"\xcc\x90\x90\x90\x90", b"\x90" * 5),
        (b"\x0f\xae\xe8", b"\x90" * 3),
        (b"\xff\x00", b"\xff\x08"),
        (b"\xeb\x01\x50\x90\x90", b"\x90" * 5),
    ],
    ids=[
        "a call and a jump",
        "another register",
        "not the return thunk",
        "a jump into int3",
        "a breakpoint",
        "a fence alone",
        "another operation",
        "a jump over an instruction",
    ],
)
def test_what_does_something_else_means_something_else(reader: Reader, one: bytes, other: bytes) -> None:
    assert reader.meaning(one, VADDR) != reader.meaning(other, VADDR)


def test_code_means_the_same_wherever_it_stands_if_it_refers_to_the_same(reader: Reader) -> None:
    elsewhere = VADDR + 0x100
    load = b"\x48\x8b\x05" + (0x80).to_bytes(4, "little")
    moved = b"\x48\x8b\x05" + (0x80 - 0x100 & 0xFFFFFFFF).to_bytes(4, "little")
    assert reader.meaning(load, VADDR) == reader.meaning(moved, elsewhere)
    assert reader.meaning(load, VADDR) != reader.meaning(load, elsewhere)


def test_a_replacement_s_jump_behind_its_place_is_a_jump_to_its_end(reader: Reader) -> None:
    place, size = VADDR - 0x100, 5
    replacement = relative("e9", 4, place + size)
    assert reader.meaning(replacement, VADDR, place + size) == ()


@given(st.binary(max_size=64))
def test_any_bytes_are_decoded_whole(code: bytes) -> None:
    reader = Reader(Thunks({}, frozenset()))
    assert sum(instruction.size for instruction in reader.decode(code, VADDR)) == len(code)
    reader.meaning(code, VADDR)
