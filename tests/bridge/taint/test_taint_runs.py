"""Runs under taint: which code, exceptions, what outlasts a run, trampolines."""

from __future__ import annotations

from contextlib import closing

import pytest
from rule_notation import RSI
from small_machine import (
    BEYOND,
    OURS,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    SOURCE,
    TWIN,
    Answers,
    SmallMachine,
    each,
    word,
)

from hybridbridge_vol.bridge.taint.events import EventKind
from hybridbridge_vol.bridge.taint.labels import POINTER, SEEDED
from hybridbridge_vol.bridge.taint.rules import trampoline
from hybridbridge_vol.machine.exceptions import VECTOR_PAGE_FAULT

# --- code -------------------------------------------------------------------------------------------------


def test_code_that_is_neither_homes_nor_the_twins_is_not_run(small: SmallMachine) -> None:
    small.machine.write(OURS, bytes.fromhex("c60701c3"))  # mov byte ptr [rdi], 1; ret
    stop = small.run("ffe0 jmp rax", rax=OURS, rdi=OURS + 0x40)
    assert stop.kind != "returned"
    assert [(event.kind, event.vaddr) for event in small.engine.events()] == [(EventKind.OUTSIDE, OURS)]
    assert small.machine.read(OURS + 0x40, 1) == b"\0"


def test_an_instruction_of_avx_is_not_run(small: SmallMachine) -> None:
    """Unicorn would run it as `pxor xmm0, xmm2`, without an exception."""
    start = small.put("c5f1efc2 vpxor xmm0, xmm1, xmm2", TWIN)
    stop = small.go(start)
    assert stop.kind != "returned"
    assert [(event.kind, event.vaddr) for event in small.engine.events()] == [(EventKind.OUTSIDE, start)]
    assert small.engine.is_code(start) and not small.engine.is_code(OURS)


def test_code_of_the_twin_is_learned_when_it_is_first_met(small: SmallMachine) -> None:
    home = small.put("90 nop")
    twin = small.put("90 nop\n90 nop", TWIN)
    for _ in range(2):
        small.go(home)
        small.go(twin)
    learned = small.engine.take_learned()
    assert [(item.vaddr - TWIN, item.size) for item in learned] == [(0, 1), (1, 1), (2, 1)]
    small.engine.forget(learned)
    small.go(twin)
    assert len(small.engine.take_learned()) == 3


def test_an_exception_in_a_callback_ends_the_run_and_is_raised_afterwards(small: SmallMachine) -> None:
    def fail(_paddr: int, _value: int) -> bool:
        raise ValueError

    small.answers.image_holds = fail
    small.image(0x10, word(OURS))
    stop = small.run("488b06 mov rax, qword ptr [rsi]\n90 nop", rsi=SOURCE)
    assert stop.kind != "returned"
    with pytest.raises(ValueError):
        small.engine.raise_failure()
    small.engine.raise_failure()


# --- exceptions -------------------------------------------------------------------------------------------


def test_an_instruction_that_faulted_has_no_effect(small: SmallMachine) -> None:
    stop = small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        488b02 mov rax, qword ptr [rdx]
        """,
        rsi=SOURCE,
        rdx=BEYOND,
    )
    assert (stop.kind, stop.vector) == ("exception", VECTOR_PAGE_FAULT)
    save = small.put("488907 mov qword ptr [rdi], rax")
    small.machine.write_register("RDI", OURS)
    assert small.machine.run(save, save + 3, 5).kind == "returned"
    small.engine.finish()
    assert small.origins(OURS, 8) == each(0x10, 8)


def test_an_instruction_that_faulted_takes_effect_when_it_runs_again(small: SmallMachine) -> None:
    small.on_demand[BEYOND] = SNAPSHOT_PADDR
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        0202 add al, byte ptr [rdx]
        8807 mov byte ptr [rdi], al
        """,
        rsi=SOURCE,
        rdi=OURS,
        rdx=BEYOND,
    )
    assert small.origins(OURS, 1) == [{0, 0x10}]


def test_a_string_instruction_goes_on_where_it_faulted(small: SmallMachine) -> None:
    small.on_demand[BEYOND] = SNAPSHOT_PADDR
    end = BEYOND - SNAPSHOT
    small.run("f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]", rsi=BEYOND - 3, rdi=OURS, rcx=5)
    assert small.origins(OURS, 5) == [*each(end - 3, 3), {0}, {1}]


# --- where a run begins -----------------------------------------------------------------------------------


def test_labels_of_memory_outlast_a_run_and_those_of_registers_do_not(small: SmallMachine) -> None:
    small.run("8a06 mov al, byte ptr [rsi]\n8807 mov byte ptr [rdi], al", rsi=SOURCE, rdi=OURS)
    small.run("884701 mov byte ptr [rdi + 1], al", rdi=OURS)
    assert small.origins(OURS, 2) == [{0x10}, set()]


def test_after_a_reset_trusted_memory_is_labelled_by_what_it_holds(small: SmallMachine) -> None:
    small.machine.write(OURS, word(SNAPSHOT + 0x40) + word(OURS) + word(5))
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        884720 mov byte ptr [rdi + 0x20], al
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    small.engine.reset()
    assert small.origins(OURS + 0x20, 1) == [set()]
    small.run(
        """
        488b07 mov rax, qword ptr [rdi]
        8a08 mov cl, byte ptr [rax]
        48894730 mov qword ptr [rdi + 0x30], rax
        488b4708 mov rax, qword ptr [rdi + 8]
        8a08 mov cl, byte ptr [rax]
        48894738 mov qword ptr [rdi + 0x38], rax
        """,
        rdi=OURS,
        rsi=0,
    )
    assert small.findings() == []
    assert all(label & (POINTER | SEEDED) == POINTER | SEEDED for label in small.labels(OURS + 0x30, 8))
    assert not any(label & POINTER for label in small.labels(OURS + 0x38, 8))


def test_after_a_reset_the_snapshots_bytes_are_their_own_origins_again(small: SmallMachine) -> None:
    small.run("48c70605000000 mov qword ptr [rsi], 5", rsi=SOURCE)
    small.engine.reset()
    assert small.origins(SOURCE, 8) == each(0x10, 8)


# --- trampolines ------------------------------------------------------------------------------------------


def at_a_trampoline(
    becomes_ours: bool, optional: bool = False
) -> tuple[SmallMachine, list[tuple[int, int, int]]]:
    """A machine whose twin has a trampoline at its first byte, of a function whose second argument must be
    ours; what is asked there."""
    asked = []

    def replace_argument(vaddr: int, register: int, label: int) -> bool:
        asked.append((vaddr, register, label))
        return becomes_ours

    small = SmallMachine({0: trampoline(0b10, optional)}, Answers(replace_argument=replace_argument))
    target = small.put("488932 mov qword ptr [rdx], rsi")
    small.machine.write(TWIN, b"\xe9" + (target - TWIN - 5).to_bytes(4, "little", signed=True))
    small.image(0x10, word(SNAPSHOT + 0x40))
    return small, asked


@pytest.mark.parametrize("optional", [False, True])
def test_an_untrusted_argument_ends_the_run_unless_that_is_optional(
    optional: bool,
) -> None:
    small, asked = at_a_trampoline(False, optional)
    with closing(small):
        stop = small.run("488b33 mov rsi, qword ptr [rbx]\nffe0 jmp rax", rax=TWIN, rbx=SOURCE, rdx=OURS)
        assert [(vaddr, register) for vaddr, register, _ in asked] == [(TWIN, RSI)]
        assert small.engine.origins(asked[0][2]) == [(0x10, 8)]
        assert (stop.kind == "returned") == optional
        assert [event.kind for event in small.engine.events()] == ([] if optional else [EventKind.FORGED])
        assert small.pointer(OURS) == optional


def test_a_replaced_argument_is_clean() -> None:
    small, asked = at_a_trampoline(True)
    with closing(small):
        assert (
            small.run("488b33 mov rsi, qword ptr [rbx]\nffe0 jmp rax", rax=TWIN, rbx=SOURCE, rdx=OURS).kind
            == "returned"
        )
        assert len(asked) == 1
        assert small.findings() == []
        assert small.clean(OURS, 8)


def test_a_trusted_argument_passes_without_a_question() -> None:
    small, asked = at_a_trampoline(False)
    with closing(small):
        assert small.run("ffe0 jmp rax", rax=TWIN, rsi=OURS, rdx=OURS, rdi=SNAPSHOT).kind == "returned"
        assert asked == []
        assert small.engine.statistics["trampolines"] == 1
        assert small.machine.read(OURS, 8) == word(OURS)
