"""Programs of several system calls on a small bridge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_bridge import SCRATCH, SmallBridge

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.program import (
    DATA_OFFSET,
    MAX_STEPS,
    PROGRAM_SIZE,
    PROGRAM_VADDR,
    ProgramMemory,
    Step,
)

Make = Callable[..., SmallBridge]

FUNCTIONS = {
    "__x64_sys_add": """
        488b4770 mov rax, qword ptr [rdi + 0x70]
        48034768 add rax, qword ptr [rdi + 0x68]
        c3 ret
    """,
    "__x64_sys_store": """
        488b4770 mov rax, qword ptr [rdi + 0x70]
        488b4f68 mov rcx, qword ptr [rdi + 0x68]
        488908 mov qword ptr [rax], rcx
        c3 ret
    """,
    "__x64_sys_load": "488b4770 mov rax, qword ptr [rdi + 0x70]\n488b00 mov rax, qword ptr [rax]\nc3 ret",
}


def caller_of(make: Make) -> Caller:
    caller = Caller(make(FUNCTIONS).bridge)
    caller.mark()
    return caller


def test_each_step_has_its_answer(make: Make) -> None:
    program = ProgramMemory(caller_of(make))
    assert program.run([Step("add", (1, 2)), Step("add", (3, -9))]) == [3, -6]


def test_a_step_may_take_an_earlier_steps_answer_as_its_first_argument(make: Make) -> None:
    program = ProgramMemory(caller_of(make))
    steps = [Step("add", (1, 2)), Step("add", (100, 200)), Step("add", (0, 40), 0), Step("add", (0, 1), 2)]
    assert program.run(steps) == [3, 300, 43, 44]


def test_data_of_a_program_is_where_its_calls_find_it(make: Make) -> None:
    program = ProgramMemory(caller_of(make))
    vaddr = program.put(DATA_OFFSET + 64, b"\x05" + bytes(7))
    assert vaddr == PROGRAM_VADDR + DATA_OFFSET + 64
    assert program.run([Step("load", (vaddr,)), Step("store", (vaddr, 6)), Step("load", (vaddr,))]) == [
        5,
        vaddr,
        6,
    ]
    assert program.get(DATA_OFFSET + 64, 1) == b"\x06"


def test_calls_of_a_program_are_counted_each_by_its_name(make: Make) -> None:
    caller = caller_of(make)
    ProgramMemory(caller).run([Step("add", (1, 2))] * 3 + [Step("load", (SCRATCH,))])
    assert {name: count.calls for name, count in caller.hybrid.statistics.by_call.items()} == {
        "add": 3,
        "load": 1,
    }


def test_where_fast_has_no_memo_the_whole_program_is_rolled_back(make: Make) -> None:
    caller = caller_of(make)
    program = ProgramMemory(caller)
    assert program.run([Step("store", (SCRATCH, 7)), Step("add", (1, 2), side="twin")]) is None
    assert caller.generation == 1
    assert program.run([Step("load", (SCRATCH,))]) == [0]


def test_the_most_steps_are_made_and_one_more_is_refused(make: Make) -> None:
    program = ProgramMemory(caller_of(make))
    answers = program.run([Step("add", (number, 1)) for number in range(MAX_STEPS)])
    assert answers == list(range(1, MAX_STEPS + 1))
    with pytest.raises(ValueError, match=f"a program of {MAX_STEPS + 1} steps; {MAX_STEPS} are possible"):
        program.run([Step("add", (1, 2))] * (MAX_STEPS + 1))


def test_a_program_without_steps_has_no_answers(make: Make) -> None:
    caller = caller_of(make)
    assert ProgramMemory(caller).run([]) == []
    assert caller.generation == 0


@pytest.mark.parametrize(
    "step",
    [Step("add", (1, 2), 1), Step("add", (1, 2), 2), Step("add", (1, 2), -1), Step("add", (1,) * 7)],
    ids=["takes its own answer", "takes a later answer", "takes no step's answer", "seven arguments"],
)
def test_a_step_that_cannot_be_made_is_refused(make: Make, step: Step) -> None:
    with pytest.raises(ValueError, match=r"step 1 \(add\) of a program"):
        ProgramMemory(caller_of(make)).run([Step("add", (1, 2)), step])


@pytest.mark.parametrize("offset", [0, DATA_OFFSET - 1, PROGRAM_SIZE - 3])
def test_data_does_not_overwrite_the_loop_or_the_steps(make: Make, offset: int) -> None:
    with pytest.raises(ValueError, match="4 bytes of a program's data do not fit"):
        ProgramMemory(caller_of(make)).put(offset, bytes(4))
