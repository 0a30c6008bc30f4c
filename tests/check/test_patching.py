"""What a kernel may write at its own patch sites, and what it may not."""

from __future__ import annotations

import struct
from array import array
from dataclasses import replace

import pytest

from hybridbridge_vol.check.instructions import Reader, Thunks
from hybridbridge_vol.check.patch_tables import Alternative, Branch, PatchTables, RuntimeConstant, StaticCall
from hybridbridge_vol.check.patching import Patcher

TEXT = 0xFFFF_FFFF_8100_0000
SITE, FUNCTION, OTHER, THUNK, RETURN_THUNK, SLOT, KEY = 0x10, 0x100, 0x120, 0x140, 0x160, 0x180, 0x188
WRAPPER, WRAPPER_KEY, EMPTY_KEY, EMPTY = 0x1A0, 0x1A8, 0x1B0, 0x1C0
NOP5 = b"\x0f\x1f\x44\x00\x00"
NOTHING = PatchTables([], [], [], [], [], *(array("I") for _ in range(6)))


class Around:
    """A kernel with two functions, a slot of `pv_ops` and a static call's key that both lead to the first,
    another key that leads to a wrapper around it, and one that leads nowhere."""

    def word(self, vaddr: int) -> int | None:
        words = {SLOT: FUNCTION, KEY: FUNCTION, WRAPPER_KEY: WRAPPER}
        if vaddr == TEXT + EMPTY_KEY:
            return 0
        return (
            0x1122334455667788
            if vaddr == TEXT + 0x190
            else TEXT + words[vaddr - TEXT]
            if vaddr - TEXT in words
            else None
        )

    def address(self, name: str) -> int | None:
        named = {"hash": 0x190, "native": FUNCTION, "__static_call_return": EMPTY}
        return TEXT + named[name] if name in named else None

    def function(self, vaddr: int) -> str | None:
        return {
            TEXT + FUNCTION: "native",
            TEXT + OTHER: "other",
            TEXT + WRAPPER: "__raw_callee_save_native",
        }.get(vaddr)

    def body(self, vaddr: int) -> bytes:
        return {TEXT + FUNCTION: NOP5 + b"\xfa\xc3"}[vaddr]  # cli; ret

    def is_paravirt_slot(self, vaddr: int) -> bool:
        return vaddr == TEXT + SLOT

    def is_slab_cache(self, vaddr: int) -> bool:
        return vaddr == 0xFFFF_8880_0000_1000

    def is_allocated(self, vaddr: int) -> bool:
        return 0xFFFF_8880_0000_0000 <= vaddr < 0xFFFF_8880_0001_0000


def branch(opcode: str, to: int, at: int = SITE, size: int = 4) -> bytes:
    """A relative branch at an offset."""
    code = bytes.fromhex(opcode)
    return code + (to - at - len(code) - size).to_bytes(size, "little", signed=True)


def accepted(tables: PatchTables, linked: bytes, found: bytes, extra: tuple[int, bytes] = (0, b"")) -> bool:
    """Whether `found` at SITE is explained where `linked` was expected; `extra` is trusted code elsewhere."""
    expected = bytearray(0x200)
    expected[SITE : SITE + len(linked)] = linked
    expected[extra[0] : extra[0] + len(extra[1])] = extra[1]
    there = bytearray(expected)
    there[SITE : SITE + len(found)] = found
    reader = Reader(Thunks({TEXT + THUNK: "rax"}, frozenset([TEXT + RETURN_THUNK])))
    Patcher(expected, there, TEXT, reader, Around()).accept(tables)
    return expected == there


SITES = array("I", [SITE])
ALTERNATIVE = replace(NOTHING, alternatives=[Alternative(SITE, 7, 0x60, 3)])
PARAVIRT = replace(NOTHING, paravirt=[(SITE, 6)])
SLOT_CALL = b"\xff\x15" + struct.pack("<i", SLOT - SITE - 6)


@pytest.mark.parametrize(
    ("tables", "linked", "lawful", "unlawful"),
    [
        (
            replace(NOTHING, mcount=SITES),
            branch("e8", OTHER),
            [NOP5, b"\x66\x66\x66\x66\x90"],
            [branch("e8", FUNCTION), b"\xcc" + NOP5[1:]],
        ),
        (
            replace(NOTHING, returns=SITES),
            branch("e9", RETURN_THUNK),
            [b"\xc3" + b"\xcc" * 4],
            [branch("e9", OTHER), NOP5, b"\xc3\x90\x90\xc3\x90"],
        ),
        (
            replace(NOTHING, returns=SITES),
            branch("2ee9", RETURN_THUNK),
            [b"\xc3" + b"\xcc" * 5, branch("e9", RETURN_THUNK) + b"\xcc"],
            [branch("2ee9", OTHER), b"\xc3" + b"\xcc" * 4 + b"\x50"],
        ),
        (
            replace(NOTHING, retpolines=SITES),
            branch("e8", THUNK),
            [b"\xff\xd0\x0f\x1f\x00", b"\x0f\xae\xe8\xff\xd0"],
            [b"\xff\xd1\x0f\x1f\x00", branch("e8", OTHER), b"\xff\xe0\x0f\x1f\x00"],
        ),
        (
            replace(NOTHING, retpolines=SITES),
            branch("0f84", THUNK),
            [b"\x75\x02\xff\xe0\x90\x90"],
            [b"\x74\x02\xff\xe0\x90\x90", b"\x75\x02\xff\xe1\x90\x90", b"\xff\xe0\x90\x90\x90\x90"],
        ),
        (
            replace(NOTHING, locks=SITES),
            b"\xf0\xff\x00",
            [b"\x3e\xff\x00"],
            [b"\x90\xff\x00", b"\x3e\xff\x08"],
        ),
        (replace(NOTHING, seals=SITES), b"\xf3\x0f\x1e\xfa", [b"\x0f\x1f\x40\xd6"], [b"\x50\x50\x50\x50"]),
        (
            replace(NOTHING, branches=[Branch(SITE, 5, FUNCTION, KEY)]),
            NOP5,
            [branch("e9", FUNCTION)],
            [branch("e9", OTHER), branch("e8", FUNCTION)],
        ),
        (
            replace(NOTHING, static_calls=[StaticCall(SITE, KEY, False)]),
            branch("e8", OTHER),
            [branch("e8", FUNCTION)],
            [branch("e9", FUNCTION), NOP5, branch("e8", FUNCTION + 1)],
        ),
        (
            replace(NOTHING, static_calls=[StaticCall(SITE, WRAPPER_KEY, False)]),
            branch("e8", OTHER),
            [branch("e8", WRAPPER), b"\xfa\x0f\x1f\x40\x00"],
            [branch("e8", FUNCTION), NOP5, b"\xfb\x0f\x1f\x40\x00"],
        ),
        (
            replace(NOTHING, static_calls=[StaticCall(SITE, KEY, False)]),
            branch("e8", OTHER),
            [branch("e8", FUNCTION)],
            [b"\xfa\x0f\x1f\x40\x00"],
        ),
        (
            replace(NOTHING, static_calls=[StaticCall(SITE, KEY, True)]),
            branch("0f85", OTHER),
            [branch("0f85", FUNCTION)],
            [branch("0f84", FUNCTION), branch("0f85", EMPTY), branch("0f85", FUNCTION + 1), b"\x90" * 6],
        ),
        (
            replace(NOTHING, static_calls=[StaticCall(SITE, EMPTY_KEY, True)]),
            branch("0f85", OTHER),
            [branch("0f85", EMPTY), branch("0f85", RETURN_THUNK)],
            [branch("0f84", EMPTY), branch("0f85", FUNCTION)],
        ),
        (
            replace(NOTHING, constants=[RuntimeConstant(SITE, 8, "hash")]),
            bytes(8),
            [(0x1122334455667788).to_bytes(8, "little")],
            [(0x1122334455667789).to_bytes(8, "little")],
        ),
        (
            replace(NOTHING, constants=[RuntimeConstant(SITE, 8, "__cache")]),
            bytes(8),
            [(0xFFFF_8880_0000_1000).to_bytes(8, "little")],
            [(0xFFFF_8880_0000_1008).to_bytes(8, "little")],
        ),
        (
            replace(NOTHING, constants=[RuntimeConstant(SITE, 8, "__queues")]),
            bytes(8),
            [(0xFFFF_8880_0000_1008).to_bytes(8, "little")],
            [(TEXT + FUNCTION).to_bytes(8, "little")],
        ),
        (
            replace(NOTHING, constants=[RuntimeConstant(SITE, 4, "hash")]),
            bytes(4),
            [(0x55667788).to_bytes(4, "little")],
            [(0x55667789).to_bytes(4, "little")],
        ),
        (
            PARAVIRT,
            SLOT_CALL,
            [branch("e8", FUNCTION) + b"\x90", b"\xfa" + b"\x90" * 5],
            [branch("e8", OTHER) + b"\x90", b"\xfb" + b"\x90" * 5, b"\x90" * 6],
        ),
    ],
    ids=[
        "mcount",
        "return",
        "return with a prefix",
        "retpoline",
        "conditional retpoline",
        "lock",
        "seal",
        "branch",
        "static call",
        "static call of a wrapper",
        "static call of what is none",
        "conditional static call",
        "conditional static call of nothing",
        "constant",
        "cache",
        "table",
        "mask",
        "paravirt",
    ],
)
def test_a_site_takes_its_lawful_forms_only(
    tables: PatchTables, linked: bytes, lawful: list[bytes], unlawful: list[bytes]
) -> None:
    assert accepted(tables, linked, linked)
    assert [accepted(tables, linked, found) for found in lawful] == [True] * len(lawful)
    assert [accepted(tables, linked, found) for found in unlawful] == [False] * len(unlawful)
    assert not any(accepted(NOTHING, linked, found) for found in lawful + unlawful), "no table, no site"


def test_an_alternative_is_the_original_or_its_replacement_however_padded() -> None:
    stac = (0x60, b"\x0f\x01\xcb")
    assert accepted(ALTERNATIVE, b"\x90" * 7, stac[1] + b"\x0f\x1f\x40\x00", stac)
    assert accepted(ALTERNATIVE, b"\x90" * 7, b"\x0f\x1f\x80\x00\x00\x00\x00", stac)
    assert accepted(ALTERNATIVE, b"\x90" * 7, b"\xeb\x05" + b"\xcc" * 5, stac)
    assert not accepted(ALTERNATIVE, b"\x90" * 7, b"\x0f\x01\xca\x0f\x1f\x40\x00", stac)
    assert not accepted(ALTERNATIVE, b"\x90" * 7, stac[1] + b"\x50\x90\x90\x90", stac)
    assert not accepted(ALTERNATIVE, b"\x90" * 7, branch("e9", OTHER) + b"\x90\x90", stac)


def test_a_replacement_s_call_leads_from_the_site_where_it_led_from_its_own_place() -> None:
    tables = replace(NOTHING, alternatives=[Alternative(SITE, 5, 0x60, 5)])
    replacement = (0x60, branch("e8", FUNCTION, at=0x60))
    assert accepted(tables, NOP5, branch("e8", FUNCTION), replacement)
    assert not accepted(tables, NOP5, replacement[1], replacement)


def test_equal_bytes_at_another_place_are_judged_anew() -> None:
    """A relative call of the thunk means something else where the same distance leads elsewhere."""
    tables = replace(NOTHING, alternatives=[Alternative(SITE, 5, 0x60, 2), Alternative(0x20, 5, 0x60, 2)])
    call = branch("e8", THUNK)
    expected = bytearray(0x200)
    expected[0x60:0x62] = b"\xff\xd0"
    found = bytearray(expected)
    found[SITE : SITE + 5] = found[0x20:0x25] = call
    reader = Reader(Thunks({TEXT + THUNK: "rax"}, frozenset()))
    Patcher(expected, found, TEXT, reader, Around()).accept(tables)
    assert expected[SITE : SITE + 5] == call
    assert expected[0x20:0x25] == bytes(5)
