"""The hashes in front of functions, which callers by pointer read: where they are, and that they stay."""

from __future__ import annotations

import struct

import pytest

from hybridbridge_vol.bridge.text.call_hashes import (
    change_hashes,
    hash_places,
    keep_hashes,
    read_call_hashes,
)
from hybridbridge_vol.bridge.text.twin_text import TwinText
from hybridbridge_vol.units import PAGE_SIZE

HASH, OTHER = 0x6398_950C, 0xA540670C
FUNCTIONS = (0x40, 0x80, 0xC0, 0x100)
BY_R10 = b"\x45\x03\x5a"
"""`add disp8(%r10), %r11d`: where the function is in %r10, as clang 19 has it in kernel/ptrace.c."""
RET, NOP, INT3 = b"\xc3", b"\x90", b"\xcc"


def check(distance: int, register: bytes = b"\x45\x03\x53") -> bytes:
    """What clang puts in front of `call *%r11` for a function of the hash `HASH`."""
    scratch = b"\x41\xbb" if register == BY_R10 else b"\x41\xba"
    call = scratch + struct.pack("<I", -HASH & 0xFFFFFFFF) + register + struct.pack("<b", -distance)
    return call + b"\x74\x02\x0f\x0b"


def preamble(value: int, room: int, move: int = 0xB8) -> bytes:
    return bytes([move]) + struct.pack("<I", value) + NOP * room


def kernel(room: int, register: bytes = b"\x45\x03\x53") -> bytearray:
    """Four functions: two with a hash, one with code in front of it, and one with room only."""
    text = bytearray(INT3 * PAGE_SIZE)
    text[0x40:0x41] = RET
    for function, value, move in ((0x40, HASH, 0xB8), (0x80, OTHER, 0xBA)):
        start = function - 5 - room
        text[start:function] = preamble(value, room, move)
    text[0xC0 - 16 : 0xC0] = b"\xb8\x01\x00\x00\x00" + RET * 11
    text[0x100 - 16 : 0x100] = NOP * 16
    text[0x200 : 0x200 + len(check(4 + room, register))] = check(4 + room, register)
    return text


@pytest.mark.parametrize("room", [0, 11])
@pytest.mark.parametrize("register", [b"\x44\x03\x53", b"\x45\x03\x53", b"\x45\x03\x54\x24", BY_R10])
def test_the_kernel_s_own_calls_say_where_hashes_are(room: int, register: bytes) -> None:
    flat = kernel(room, register)
    found = read_call_hashes(flat, memoryview(bytes(flat)), FUNCTIONS, PAGE_SIZE)
    assert list(found.distances) == [4 + room]
    assert list(found.places) == [0x40 - 4 - room, 0x80 - 4 - room]
    assert found.seed == 0


def test_a_kernel_without_such_calls_has_no_hashes() -> None:
    flat = kernel(11)
    flat[0x200:0x220] = INT3 * 0x20
    found = read_call_hashes(flat, memoryview(bytes(flat)), FUNCTIONS, PAGE_SIZE)
    assert (list(found.distances), list(found.places)) == ([], [])


def test_a_kernel_may_have_changed_all_hashes_when_it_booted_and_cleared_some() -> None:
    flat = kernel(11)
    booted = bytearray(flat)
    seed = 0x1234_5678
    booted[0x40 - 15 : 0x40 - 11] = struct.pack("<I", HASH ^ seed)
    booted[0x80 - 15 : 0x80 - 11] = bytes(4)
    found = read_call_hashes(flat, memoryview(booted), FUNCTIONS, PAGE_SIZE)
    assert found.seed == seed
    assert list(found.places) == [0x40 - 15, 0x80 - 15]


def test_a_module_s_hashes_and_calls_agree_with_the_kernel_s() -> None:
    code, seed = kernel(11), 0x1234_5678
    places = hash_places(code, FUNCTIONS, [15])
    change_hashes(code, places, seed)
    assert [struct.unpack_from("<I", code, place)[0] for place in places] == [HASH ^ seed, OTHER ^ seed]
    (demanded,) = struct.unpack_from("<I", code, 0x202)
    assert demanded + (HASH ^ seed) == 1 << 32
    change_hashes(code, places, seed)
    assert code == kernel(11)


def test_hashes_stay_readable_where_nothing_is_proven_and_nothing_else_does() -> None:
    page = kernel(11)
    masked = bytearray(INT3 * PAGE_SIZE)
    keep_hashes(masked, page, 0, [0x40 - 15, 0x80 - 15])
    expected = bytearray(INT3 * PAGE_SIZE)
    expected[0x40 - 15 : 0x40 - 11] = struct.pack("<I", HASH)
    expected[0x80 - 15 : 0x80 - 11] = struct.pack("<I", OTHER)
    assert masked == expected


@pytest.mark.parametrize("place", range(PAGE_SIZE - 5, PAGE_SIZE + 2))
def test_a_hash_across_the_end_of_a_page_is_kept_in_both(place: int) -> None:
    text = bytearray(2 * PAGE_SIZE)
    text[place : place + 4] = struct.pack("<I", HASH)
    whole = TwinText(memoryview(text), (), 0, hashes=[place])
    kept = bytearray()
    for start in (0, PAGE_SIZE):
        masked = bytearray(INT3 * PAGE_SIZE)
        keep_hashes(masked, whole.page(start), start, whole.hashes)
        kept += masked
    assert kept[place : place + 4] == struct.pack("<I", HASH)
    assert kept.count(INT3) == 2 * PAGE_SIZE - 4
