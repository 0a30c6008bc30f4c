"""The code of trampolines, run: where each goes, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from assembly import assembled
from hypothesis import given
from hypothesis import strategies as st
from small_machine import END, HOME, RETURN, STACK, TRUSTED_MEMORY, TWIN, SmallMachine

from hybridbridge_vol.bridge.text.policy import ACTIONS, JUMP_SIZE, Policy, Rule, Trampoline, resolve
from hybridbridge_vol.bridge.text.trampolines import (
    answer,
    free_if_trusted,
    home_trampolines,
    twin_trampolines,
)
from hybridbridge_vol.bridge.text.twin_text import jump, returning
from hybridbridge_vol.machine.machine import Stop

ENTRY = 0x80
"""Offset from `_text` of the function with a trampoline."""
HOMES_ANSWER = 0x1234
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx")
SNAPSHOTS_OBJECT, USER_OBJECT = 0xFFFF_8880_0123_4567, 0x7FFF_0000_1000


@pytest.fixture
def small() -> Iterator[SmallMachine]:
    """A machine whose home function at `ENTRY` returns `HOMES_ANSWER`."""
    machine = SmallMachine()
    machine.machine.write(HOME + ENTRY, assembled("b834120000 mov eax, 0x1234") + b"\xc3")
    yield machine
    machine.close()


def call(small: SmallMachine, trampoline: Trampoline, *arguments: int) -> Stop:
    """Call the twin's function."""
    ((offset, code),) = twin_trampolines([trampoline], TWIN, HOME, TRUSTED_MEMORY)
    assert offset == ENTRY
    small.machine.write(TWIN + offset, code)
    small.machine.uc.ctl_remove_cache(TWIN + offset, TWIN + offset + len(code))
    return small.machine.call(TWIN + offset, arguments, STACK, END, 5)


def rax(small: SmallMachine) -> int:
    return small.machine.read_register("RAX")


def test_home_goes_on_in_the_trusted_kernels_own_copy(small: SmallMachine) -> None:
    assert call(small, Trampoline(ENTRY, "home")).kind == "returned"
    assert rax(small) == HOMES_ANSWER


@pytest.mark.parametrize("argument", range(len(ARGUMENTS)))
def test_free_goes_home_with_an_object_of_the_trusted_side_and_leaves_the_snapshots_alone(
    small: SmallMachine, argument: int
) -> None:
    trampoline = Trampoline(ENTRY, "free", argument)
    for value, home in (
        (TRUSTED_MEMORY, True),
        (TRUSTED_MEMORY + (8 << 40) - 1, True),
        (TRUSTED_MEMORY + (8 << 40), False),
        (TRUSTED_MEMORY - 1, False),
        (SNAPSHOTS_OBJECT, False),
        (USER_OBJECT, False),
        (0, False),
    ):
        small.machine.write_register("RAX", 0)
        others = [TRUSTED_MEMORY if value != TRUSTED_MEMORY else 0] * len(ARGUMENTS)
        others[argument] = value
        assert call(small, trampoline, *others).kind == "returned"
        assert (rax(small) == HOMES_ANSWER) == home, hex(value)


@given(st.integers(0, (1 << 64) - 1))
def test_the_guard_hole_decides_what_is_freed(value: int) -> None:
    """As its code says: the 21 bits above 43 are compared."""
    code = free_if_trusted(0, TWIN, HOME, TRUSTED_MEMORY)
    tag = int.from_bytes(code[8:12], "little")
    assert code[7:8] == b"\x3d"  # cmp eax, imm32
    assert (value >> 43 == tag) == (TRUSTED_MEMORY <= value < TRUSTED_MEMORY + (8 << 40))


def test_returns_answer_without_going_anywhere(small: SmallMachine) -> None:
    for value, expected in ((0, 0), (1, 1), (-5, 0xFFFF_FFFB)):
        assert call(small, Trampoline(ENTRY, "return", value)).kind == "returned"
        assert rax(small) & 0xFFFF_FFFF == expected
    assert call(small, Trampoline(ENTRY, "argument"), SNAPSHOTS_OBJECT).kind == "returned"
    assert rax(small) == SNAPSHOTS_OBJECT


def test_answers_are_the_instructions_they_should_be() -> None:
    assert answer("return", 1) == returning(1) == assembled("b801000000 mov eax, 1") + RETURN
    assert answer("return", 0) == assembled("31c0 xor eax, eax") + RETURN
    assert answer("argument", 0) == assembled("4889f8 mov rax, rdi") + RETURN
    assert answer("halt", 0) == assembled("fa cli\nf4 hlt")


def test_halt_ends_the_call(small: SmallMachine) -> None:
    assert call(small, Trampoline(ENTRY, "halt")).kind == "halted"


def test_home_is_patched_only_where_both_sides_answer_alike() -> None:
    trampolines = [Trampoline(0x10 * number, action, 1, True) for number, action in enumerate(ACTIONS)]
    one_side = [item._replace(both_sides=False) for item in trampolines]
    assert dict(home_trampolines(trampolines)) == {
        0x10 * ACTIONS.index("return"): returning(1),
        0x10 * ACTIONS.index("argument"): answer("argument", 1),
        0x10 * ACTIONS.index("halt"): answer("halt", 1),
    }
    assert list(home_trampolines(one_side)) == []


@given(
    st.sampled_from([action for action in ACTIONS if action != "twin"]),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.integers(0, len(ARGUMENTS) - 1),
    st.integers(0, 40),
)
def test_a_trampoline_is_never_larger_than_its_function(
    action: str, value: int, argument: int, size: int
) -> None:
    rule = Rule("", action, ("function",), value, argument)
    for trampoline in resolve(Policy((rule,), ""), [(0, size, "function")]).trampolines:
        ((_offset, code),) = twin_trampolines([trampoline], TWIN, HOME, TRUSTED_MEMORY)
        assert len(code) <= size


def test_jumps_reach_both_ways() -> None:
    assert jump(0x1000, 0x1005) == b"\xe9\0\0\0\0"
    assert jump(0x2000, 0x1000) == b"\xe9" + (-0x1005 & 0xFFFFFFFF).to_bytes(4, "little")
    assert len(jump(0, 0)) == JUMP_SIZE
