"""Random straight-line code: its labels are those of a simple model."""

from __future__ import annotations

from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st
from small_machine import OURS, SNAPSHOT, STACK, SmallMachine
from taint_model import Model

STEPS = [
    "8a4603 mov al, byte ptr [rsi + 3]",
    "8a6604 mov ah, byte ptr [rsi + 4]",
    "668b4e05 mov cx, word ptr [rsi + 5]",
    "8b5e02 mov ebx, dword ptr [rsi + 2]",
    "488b16 mov rdx, qword ptr [rsi]",
    "488b4704 mov rax, qword ptr [rdi + 4]",
    "8b4f01 mov ecx, dword ptr [rdi + 1]",
    "8a5f06 mov bl, byte ptr [rdi + 6]",
    "886702 mov byte ptr [rdi + 2], ah",
    "885601 mov byte ptr [rsi + 1], dl",
    "66895f07 mov word ptr [rdi + 7], bx",
    "895709 mov dword ptr [rdi + 9], edx",
    "c7460407000000 mov dword ptr [rsi + 4], 7",
    "48890f mov qword ptr [rdi], rcx",
    "48894606 mov qword ptr [rsi + 6], rax",
    "4889d8 mov rax, rbx",
    "89c2 mov edx, eax",
    "6689c3 mov bx, ax",
    "88c5 mov ch, al",
    "88fa mov dl, bh",
    "b905000000 mov ecx, 5",
    "b005 mov al, 5",
    "4801d0 add rax, rdx",
    "01d9 add ecx, ebx",
    "00eb add bl, ch",
    "66035601 add dx, word ptr [rsi + 1]",
    "48015f03 add qword ptr [rdi + 3], rbx",
    "004705 add byte ptr [rdi + 5], al",
    "83c003 add eax, 3",
    "4831cb xor rbx, rcx",
    "31d0 xor eax, edx",
    "30c6 xor dh, al",
    "48334f02 xor rcx, qword ptr [rdi + 2]",
    "66314e03 xor word ptr [rsi + 3], cx",
    "803703 xor byte ptr [rdi], 3",
    "31db xor ebx, ebx",
    "30c0 xor al, al",
    "50 push rax",
    "53 push rbx",
    "ff7601 push qword ptr [rsi + 1]",
    "59 pop rcx",
    "5a pop rdx",
    "8f4705 pop qword ptr [rdi + 5]",
]

RESULTS = """
    48894720 mov qword ptr [rdi + 0x20], rax
    48894f28 mov qword ptr [rdi + 0x28], rcx
    48895730 mov qword ptr [rdi + 0x30], rdx
    48895f38 mov qword ptr [rdi + 0x38], rbx
"""


@settings(deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_straight_line_code_labels_as_a_simple_model_does(steps: list[str]) -> None:
    depth, program = 0, []
    for step in steps:
        depth += (" push " in step) - (" pop " in step)
        if depth < 0:  # nothing of ours to pop
            depth = 0
            continue
        program.append(step)
    program += [line.strip() for line in RESULTS.split("\n") if line.strip()]
    program += ["58 pop rax"] * depth
    model = Model({"rsi": SNAPSHOT, "rdi": OURS, "rsp": STACK - 8})
    for offset in range(0x40):
        model.memory[SNAPSHOT + offset] = frozenset({offset})
    for step in program:
        model.step(step.split(maxsplit=1)[1])
    with closing(SmallMachine()) as small:
        assert small.run("\n".join(program), rsi=SNAPSHOT, rdi=OURS).kind == "returned"
        for start in (SNAPSHOT, OURS):
            expected = [set(model.memory.get(start + offset, ())) for offset in range(0x40)]
            assert small.origins(start, 0x40) == expected
        assert small.findings() == []
