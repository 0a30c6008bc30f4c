"""Code that needs no proof: which other ways of a proven function FAST-BRIDGE takes without a fall-back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from small_bridge import SLOT, SmallBridge
from small_snapshot import DATA, word

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.plain_code import jump_target, multiplies
from hybridbridge_vol.bridge.text.policy import Trampoline
from hybridbridge_vol.errors import CallRolledBack

Make = Callable[..., SmallBridge]

ONE_WAY = """
    85ff test edi, edi
    7405 je 7
    31c0 xor eax, eax
    ffc0 inc eax
    c3 ret
"""
"""Gives 1 for anything but 0; for 0 it goes on behind itself."""
OTHER_WAY = 0x9
"""From the function's start."""
INNER = "8d4702 lea eax, [rdi + 2]\nc3 ret"
VARIABLE = DATA + 0x100


def caller_of(small: SmallBridge) -> Caller:
    caller = Caller(small.bridge, Mode.AUTO)
    caller.mark()
    return caller


@pytest.mark.parametrize(
    ("listing", "answer"),
    [
        (INNER, 2),
        # a loop, as long as it takes
        ("ffc7 inc edi\n83ff03 cmp edi, 3\n75f9 jne 0xfffffffffffffffb\n89f8 mov eax, edi\nc3 ret", 3),
        # memory by registers, and the stack
        ("55 push rbp\n488b0424 mov rax, qword ptr [rsp]\n31c0 xor eax, eax\n5d pop rbp\nc3 ret", 0),
        # 7 * 6 / 6
        ("b807000000 mov eax, 7\nb906000000 mov ecx, 6\nf7e1 mul ecx\nf7f1 div ecx\nc3 ret", 7),
        ("b807000000 mov eax, 7\n48f7d8 neg rax\n48f7d8 neg rax\nc3 ret", 7),
        # back to what is proven
        ("83c701 add edi, 1\nebf2 jmp 0xfffffffffffffff4", 1),
    ],
    ids=["computes", "loops", "memory", "multiplies and divides", "negates", "back"],
)  # fmt: skip
def test_another_way_that_only_copies_and_computes_does_not_trap(
    make: Make, listing: str, answer: int
) -> None:
    small = make({"choose": ONE_WAY + listing})
    caller = caller_of(small)
    assert caller.call(small.twin("choose"), 7) == 1
    assert caller.call(small.twin("choose"), 0) == answer
    assert caller.hybrid.statistics.trapped_in == ["twin choose+0x0"]


@pytest.mark.parametrize(
    ("listing", "trampolines"),
    [
        ("488b05f03f0000 mov rax, qword ptr [rip + 0x3ff0]\nc3 ret", []),
        ("f725f23f0000 mul dword ptr [rip + 0x3ff2]\nc3 ret", []),
        ("488d05f03f0000 lea rax, [rip + 0x3ff0]\nc3 ret", []),
        ("65488b042500000000 mov rax, qword ptr gs:[0]\nc3 ret", []),
        ("e8f2000000 call 0xf7\nc3 ret", []),
        ("ffd7 call rdi", []),
        ("ffe7 jmp rdi", []),
        ("0f0b ud2", []),
        ("fa cli\nc3 ret", []),
        ("0f30 wrmsr\nc3 ret", []),
        ("e9f2000000 jmp 0xf7", [Trampoline(2 * SLOT, "home", trusted=1)]),
    ],
    ids=[
        "static",
        "static factor",
        "address",
        "gs",
        "call",
        "indirect call",
        "indirect jump",
        "ud2",
        "cli",
        "wrmsr",
        "home",
    ],
)
def test_what_slow_bridge_decides_or_checks_traps(
    make: Make, listing: str, trampolines: list[Trampoline]
) -> None:
    small = make({"choose": ONE_WAY + listing, "inner": INNER}, trampolines=trampolines)
    caller = caller_of(small)
    assert caller.call(small.twin("choose"), 7) == 1
    with contextlib.suppress(CallRolledBack):  # some of these cannot run here at all
        caller.call(small.twin("choose"), 0)
    assert caller.hybrid.statistics.trapped_in == ["twin choose+0x0", f"twin choose+{OTHER_WAY:#x}"]


def test_a_way_is_plain_up_to_its_first_static_reference(make: Make) -> None:
    listing = "ffc7 inc edi\n488b05ee3f0000 mov rax, qword ptr [rip + 0x3fee]\nc3 ret"
    small = make({"choose": ONE_WAY + listing}, statics={VARIABLE: word(5)})
    caller = caller_of(small)
    caller.call(small.twin("choose"), 7)
    assert caller.call(small.twin("choose"), 0) == 5
    assert caller.hybrid.statistics.trapped_in[1:] == [f"twin choose+{OTHER_WAY + 2:#x}"]


def test_a_jump_to_another_function_is_not_followed(make: Make) -> None:
    outer = "85ff test edi, edi\n0f84f8000000 je 0xfe\n31c0 xor eax, eax\nc3 ret"
    small = make({"outer": outer, "inner": INNER})
    caller = caller_of(small)
    assert caller.call(small.twin("outer"), 7) == 0
    assert caller.call(small.twin("outer"), 0) == 2
    assert caller.hybrid.statistics.trapped_in == ["twin outer+0x0", "twin inner+0x0"]


def test_what_is_only_looked_at_counts_as_neither_run_nor_unknown(make: Make) -> None:
    small = make({"choose": ONE_WAY + "0f01f9 rdtscp\nc3 ret"})
    caller = caller_of(small)
    caller.call(small.twin("choose"), 7)
    statistics = caller.hybrid.finish_statistics()
    assert statistics.total.memoized == 5 and not statistics.unknown_instructions


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("7405", 0x1007), ("75f9", 0xFFB), ("eb00", 0x1002), ("e9fb000000", 0x1100), ("0f84fa000000", 0x1100),
        ("e8fb000000", None), ("ffe0", None), ("c3", None), ("0f1f00", None), ("0f", None), ("2e7405", None),
    ],
)  # fmt: skip
def test_where_a_jump_leads(code: str, target: int | None) -> None:
    assert jump_target(0x1000, bytes.fromhex(code)) == target


@pytest.mark.parametrize(
    ("code", "does"),
    [
        ("f7e1", True), ("48f7f1", True), ("66f7f9", True), ("f6e9", True), ("41f77508", True),
        ("f7d8", False), ("f7c101000000", False), ("f7", False), ("", False), ("48", False),
        ("0fafc1", False),
    ],
)  # fmt: skip
def test_what_multiplies_or_divides_the_accumulator(code: str, does: bool) -> None:
    assert multiplies(bytes.fromhex(code)) is does


def test_a_division_by_zero_ends_the_call_on_either_bridge(make: Make) -> None:
    small = make({"choose": ONE_WAY + "31c9 xor ecx, ecx\nf7f1 div ecx\nc3 ret"})
    caller = caller_of(small)
    assert caller.call(small.twin("choose"), 7) == 1
    for _ in range(2):
        with pytest.raises(CallRolledBack, match=r"divide error in twin choose\+0xb"):
            caller.call(small.twin("choose"), 0)
