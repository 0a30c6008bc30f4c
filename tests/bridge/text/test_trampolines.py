"""The code of trampolines, run: where each goes, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from assembly import assembled
from hypothesis import given
from hypothesis import strategies as st
from small_machine import END, HOME, OURS, RETURN, SNAPSHOT, STACK, TRUSTED_MEMORY, TWIN, SmallMachine

from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.first_field import first_field
from hybridbridge_vol.bridge.text.policy import ACTIONS, JUMP_SIZE, Policy, Rule, Trampoline, resolve
from hybridbridge_vol.bridge.text.slab_fields import SlabFields
from hybridbridge_vol.bridge.text.trampolines import (
    TwinTrampolines,
    answer,
    free_if_trusted,
    home_trampolines,
)
from hybridbridge_vol.bridge.text.twin_text import Patch, jump, returning
from hybridbridge_vol.machine.machine import Stop

FORM = FileSystemForm(super_list=0x18)
FIELDS = SlabFields(object_size=0x1C, constructor=0x58)
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


def code_of(*trampolines: Trampoline) -> list[Patch]:
    return list(TwinTrampolines(trampolines, TWIN, HOME, TRUSTED_MEMORY, FIELDS, FORM).patches(0, 1 << 32))


def call(small: SmallMachine, trampoline: Trampoline, *arguments: int) -> Stop:
    """Call the twin's function."""
    ((offset, code),) = code_of(trampoline)
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
    assert (
        answer("seize", 255)
        == assembled("810fff000000 or dword ptr [rdi], 0xff\n4889f8 mov rax, rdi") + RETURN
    )
    assert answer("halt", 0) == assembled("fa cli\nf4 hlt")


def test_a_lock_is_taken_at_home_and_the_answer_is_ours(small: SmallMachine) -> None:
    other = 0x40
    small.machine.write(HOME + other, assembled("4889fe mov rsi, rdi") + RETURN)
    assert call(small, Trampoline(ENTRY, "lock", 1, target=other), SNAPSHOTS_OBJECT).kind == "returned"
    assert (rax(small), small.machine.read_register("RSI")) == (1, SNAPSHOTS_OBJECT)


def test_a_lock_that_is_seized_has_its_bits_set_and_is_returned(small: SmallMachine) -> None:
    lock = HOME + 0x60
    small.machine.write(lock, bytes.fromhex("0002000099"))
    assert call(small, Trampoline(ENTRY, "seize", 0xFF), lock).kind == "returned"
    assert (rax(small), small.machine.read(lock, 5)) == (lock, bytes.fromhex("ff02000099"))


def test_an_owner_decides_between_home_and_a_function_of_the_twin(small: SmallMachine) -> None:
    other = ENTRY + 0x80
    small.machine.write(TWIN + other, assembled("b878560000 mov eax, 0x5678") + b"\xc3")
    with_target = Trampoline(ENTRY, "owner", 0, target=other)
    for value, answers in ((TRUSTED_MEMORY, (HOMES_ANSWER, HOMES_ANSWER)), (SNAPSHOTS_OBJECT, (0x5678, 0))):
        for trampoline, expected in zip((with_target, with_target._replace(target=0)), answers, strict=True):
            assert call(small, trampoline, value).kind == "returned"
            assert rax(small) == expected


def test_a_mark_sends_an_object_of_the_snapshots_home(small: SmallMachine) -> None:
    other = ENTRY + 0x80
    small.machine.write(TWIN + other, assembled("b878560000 mov eax, 0x5678") + b"\xc3")
    with_target = Trampoline(ENTRY, "marked", target=other)
    ours, marked, unmarked = OURS, SNAPSHOT + 0x200, SNAPSHOT + 0x240
    small.machine.write_u64(marked + FORM.mark_at, TRUSTED_MEMORY)
    small.machine.write_u64(unmarked + FORM.mark_at, SNAPSHOT)
    for value, answers in (
        (ours, (HOMES_ANSWER, HOMES_ANSWER)), (marked, (HOMES_ANSWER, HOMES_ANSWER)), (unmarked, (0x5678, 0)),
    ):  # fmt: skip
        for trampoline, expected in zip((with_target, with_target._replace(target=0)), answers, strict=True):
            assert call(small, trampoline, value).kind == "returned"
            assert rax(small) == expected


CACHE, OBJECT = SNAPSHOT + 0x100, OURS
"""A `struct kmem_cache` of the snapshot's, and memory of the trusted side."""
KMALLOC, CONSTRUCTOR = 0x300, 0x340


@pytest.mark.parametrize(("has_constructor", "object_vaddr"), [(True, OBJECT), (False, OBJECT), (True, 0)])
def test_a_cache_of_the_snapshots_gives_constructed_memory_of_the_trusted_kernels(
    small: SmallMachine, has_constructor: bool, object_vaddr: int
) -> None:
    write, machine = small.machine.write, small.machine
    # __kmalloc(size, flags): notes both, spoils what a function may spoil, returns the object
    noted, shown = OBJECT + 0x100, f"{object_vaddr:#x}" if object_vaddr else "0"
    code = assembled(
        f"""
        48b8{noted.to_bytes(8, "little").hex()} movabs rax, {noted:#x}
        488938 mov qword ptr [rax], rdi
        48897008 mov qword ptr [rax + 8], rsi
        48b8{object_vaddr.to_bytes(8, "little").hex()} movabs rax, {shown}
        31ff xor edi, edi
        """
    )
    write(HOME + KMALLOC, code + RETURN)
    # the constructor marks the object and answers something else
    write(TWIN + CONSTRUCTOR, assembled("c7072a000000 mov dword ptr [rdi], 0x2a\n31c0 xor eax, eax") + RETURN)
    write(OBJECT, bytes(0x110))
    write(CACHE + FIELDS.object_size, (0xC0).to_bytes(4, "little"))
    write(CACHE + FIELDS.constructor, (TWIN + CONSTRUCTOR if has_constructor else 0).to_bytes(8, "little"))
    machine.write_register("RBX", 0x1B1B)
    assert call(small, Trampoline(ENTRY, "allocate", target=KMALLOC), CACHE, 0xCC0).kind == "returned"
    assert rax(small) == object_vaddr
    assert machine.read_register("RBX") == 0x1B1B
    assert machine.read_u64(noted) == 0xC0 and machine.read_u64(noted + 8) == 0xDC0
    marked = has_constructor and object_vaddr
    assert machine.read(OBJECT, 4) == (42 if marked else 0).to_bytes(4, "little")


def test_a_trusted_cache_is_asked_at_home(small: SmallMachine) -> None:
    assert (
        call(small, Trampoline(ENTRY, "allocate", target=KMALLOC), TRUSTED_MEMORY, 0xCC0).kind == "returned"
    )
    assert rax(small) == HOMES_ANSWER


def test_an_object_is_released_to_the_allocator_that_it_came_from(small: SmallMachine) -> None:
    small.machine.write(HOME + KMALLOC, assembled("4889f8 mov rax, rdi") + RETURN)  # kfree(object)
    release = Trampoline(ENTRY, "release", 1, target=KMALLOC)
    ours = TRUSTED_MEMORY + 0x40
    for cache, released, expected in (
        (TRUSTED_MEMORY, ours, HOMES_ANSWER),
        (SNAPSHOTS_OBJECT, ours, ours),
    ):
        assert call(small, release, cache, released).kind == "returned"
        assert rax(small) == expected
    for cache in (TRUSTED_MEMORY, SNAPSHOTS_OBJECT):
        small.machine.write_register("RSI", 0)
        assert call(small, release, cache, SNAPSHOTS_OBJECT).kind == "returned"
        assert rax(small) not in (HOMES_ANSWER, SNAPSHOTS_OBJECT)


def test_the_first_field_of_a_structure_is_what_a_small_function_loads() -> None:
    prologue = "f30f1efa endbr64\n0f1f440000 nop dword ptr [rax + rax]"
    assert first_field(assembled(f"{prologue}\n8b471c mov eax, dword ptr [rdi + 0x1c]") + RETURN, 4) == 0x1C
    assert first_field(assembled("488b9780010000 mov rdx, qword ptr [rdi + 0x180]") + RETURN, 8) == 0x180
    assert first_field(assembled("488b9780010000 mov rdx, qword ptr [rdi + 0x180]") + RETURN, 4) is None
    assert first_field(assembled("8b871c100000 mov eax, dword ptr [rdi + 0x101c]") + RETURN, 4) is None
    copied = "4889f8 mov rax, rdi\n4889f7 mov rdi, rsi\n"
    assert first_field(assembled(f"{copied}488b5048 mov rdx, qword ptr [rax + 0x48]"), 8) == 0x48
    assert first_field(assembled(f"{copied}488b5748 mov rdx, qword ptr [rdi + 0x48]"), 8) is None
    assert first_field(RETURN + assembled("8b471c mov eax, dword ptr [rdi + 0x1c]"), 4) is None
    assert first_field(b"", 4) is None
    compared = assembled("4883bf9000000000 cmp qword ptr [rdi + 0x90], 0")
    assert first_field(compared + RETURN, 8) == 0x90
    assert first_field(compared + RETURN, 4) is None
    compared = assembled("48397720 cmp qword ptr [rdi + 0x20], rsi")
    assert first_field(compared + RETURN, 8) == 0x20


def test_who_would_wait_again_and_again_is_halted(small: SmallMachine) -> None:
    shared, drop = 1, 2
    for trampoline, before in ((Trampoline(ENTRY, "wait", 3), 3), (Trampoline(ENTRY, "wait", 4), 4)):
        assert call(small, trampoline, *[drop] * before, shared).kind == "returned"
        assert rax(small) & 0xFFFF_FFFF == 0xFFFF_FFFC
        assert call(small, trampoline, *[shared] * before, drop).kind == "halted"


def test_a_page_that_is_not_read_is_unlocked(small: SmallMachine) -> None:
    page = HOME + 0x60
    small.machine.write(page, bytes.fromhex("17ff"))
    assert call(small, Trampoline(ENTRY, "unlock", -5), 0, 0, page).kind == "returned"
    assert (rax(small) & 0xFFFF_FFFF, small.machine.read(page, 2)) == (0xFFFF_FFFB, bytes.fromhex("16ff"))


def test_halt_ends_the_call(small: SmallMachine) -> None:
    assert call(small, Trampoline(ENTRY, "halt")).kind == "halted"


def test_home_is_patched_only_where_both_sides_answer_alike() -> None:
    trampolines = [Trampoline(0x10 * number, action, 1, True) for number, action in enumerate(ACTIONS)]
    one_side = [item._replace(both_sides=False) for item in trampolines]
    assert dict(home_trampolines(trampolines)) == {
        0x10 * ACTIONS.index("return"): returning(1),
        0x10 * ACTIONS.index("argument"): answer("argument", 1),
        0x10 * ACTIONS.index("seize"): answer("seize", 1),
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
        ((_offset, code),) = code_of(trampoline)
        assert len(code) <= size


def test_jumps_reach_both_ways() -> None:
    assert jump(0x1000, 0x1005) == b"\xe9\0\0\0\0"
    assert jump(0x2000, 0x1000) == b"\xe9" + (-0x1005 & 0xFFFFFFFF).to_bytes(4, "little")
    assert len(jump(0, 0)) == JUMP_SIZE
