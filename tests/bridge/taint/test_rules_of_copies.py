"""Transfer rules of instructions that copy: moves, the stack, exchanges, strings."""

from __future__ import annotations

from collections import Counter

import pytest
from rule_notation import (
    MEMORY,
    NO_BITS,
    R8,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RSI,
    RSP,
    WRITES,
    check,
    constant,
    decoded,
    mem,
    numbers,
    reg,
    vector,
)

from hybridbridge_vol.bridge.taint.decoder import Decoder
from hybridbridge_vol.bridge.taint.operands import StaticTargets
from hybridbridge_vol.bridge.taint.registers import NO_REGISTER
from hybridbridge_vol.bridge.taint.rules import Bits, Operand, Rule, RuleKind


@pytest.mark.parametrize(
    ("listing", "operand"),
    [
        ("4889c3 mov rbx, rax", reg(RBX)),
        ("89c3 mov ebx, eax", reg(RBX, 4)),
        ("6689c3 mov bx, ax", reg(RBX, 2)),
        ("88c3 mov bl, al", reg(RBX, 1)),
        ("88c7 mov bh, al", reg(RBX, 1, first=1)),
        ("4088c6 mov sil, al", reg(RSI, 1)),
        ("4989c0 mov r8, rax", reg(R8)),
        ("4189c0 mov r8d, eax", reg(R8, 4)),
        ("664189c0 mov r8w, ax", reg(R8, 2)),
        ("4188c0 mov r8b, al", reg(R8, 1)),
        ("4989c7 mov r15, rax", reg(15)),
        ("66440f6ff8 movdqa xmm15, xmm0", vector(15)),
    ],
)
def test_a_register_is_a_range_of_byte_slots(listing: str, operand: Operand) -> None:
    assert decoded(listing).rule.target == operand


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4889d8 mov rax, rbx", Rule(RuleKind.COPY, NO_BITS, reg(RAX), reg(RBX))),
        ("88dc mov ah, bl", Rule(RuleKind.COPY, NO_BITS, reg(RAX, 1, first=1), reg(RBX, 1))),
        ("8b06 mov eax, dword ptr [rsi]", Rule(RuleKind.COPY, MEMORY, reg(RAX, 4), mem(4), base=RSI)),
        (
            "88444f08 mov byte ptr [rdi + rcx*2 + 8], al",
            Rule(RuleKind.COPY, MEMORY, mem(1), reg(RAX, 1), base=RDI, index=RCX),
        ),
        (
            "a08877665544332211 movabs al, byte ptr [0x1122334455667788]",
            Rule(RuleKind.COPY, MEMORY, reg(RAX, 1), mem(1)),
        ),
        ("480fc307 movnti qword ptr [rdi], rax", Rule(RuleKind.COPY, MEMORY, mem(8), reg(RAX), base=RDI)),
        ("0fb606 movzx eax, byte ptr [rsi]", Rule(RuleKind.COPY, MEMORY, reg(RAX, 4), mem(1), base=RSI)),
        ("0fb6c7 movzx eax, bh", Rule(RuleKind.COPY, NO_BITS, reg(RAX, 4), reg(RBX, 1, first=1))),
        ("480fbec3 movsx rax, bl", Rule(RuleKind.COPY, Bits.SIGN_EXTENDS, reg(RAX), reg(RBX, 1))),
        ("4863c3 movsxd rax, ebx", Rule(RuleKind.COPY, Bits.SIGN_EXTENDS, reg(RAX), reg(RBX, 4))),
        (
            "f30f6f06 movdqu xmm0, xmmword ptr [rsi]",
            Rule(RuleKind.COPY, MEMORY, vector(0), mem(16), base=RSI),
        ),
        ("66480f6ec8 movq xmm1, rax", Rule(RuleKind.COPY, NO_BITS, vector(1), reg(RAX))),
        ("66480f7ec8 movq rax, xmm1", Rule(RuleKind.COPY, NO_BITS, reg(RAX), vector(1, 8))),
        ("660f7ec8 movd eax, xmm1", Rule(RuleKind.COPY, NO_BITS, reg(RAX, 4), vector(1, 4))),
    ],
)
def test_moves_copy_byte_by_byte(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "target"),
    [
        ("b805000000 mov eax, 5", reg(RAX, 4)),
        ("48b88877665544332211 movabs rax, 0x1122334455667788", reg(RAX)),
        ("0f20d8 mov rax, cr3", reg(RAX)),
        ("8cd8 mov eax, ds", reg(RAX, 4)),
    ],
)
def test_a_constant_cleans_its_target(listing: str, target: Operand) -> None:
    check(listing, Rule(RuleKind.CLEAR, NO_BITS, target))


def test_a_constant_cleans_memory() -> None:
    check("c70705000000 mov dword ptr [rdi], 5", Rule(RuleKind.CLEAR, MEMORY, mem(4), base=RDI))


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("50 push rax", Rule(RuleKind.COPY, MEMORY | Bits.PUSHES, mem(8), reg(RAX), base=RSP)),
        ("58 pop rax", Rule(RuleKind.COPY, MEMORY | Bits.POPS, reg(RAX), mem(8), base=RSP)),
        ("ff37 push qword ptr [rdi]", Rule(RuleKind.COPY, MEMORY | Bits.PUSHES, mem(8), mem(8), base=RDI)),
        ("8f07 pop qword ptr [rdi]", Rule(RuleKind.COPY, MEMORY | Bits.POPS, mem(8), mem(8), base=RDI)),
        ("6a05 push 5", Rule(RuleKind.COPY, MEMORY | Bits.PUSHES, mem(8), constant(8), base=RSP)),
        ("c9 leave", Rule(RuleKind.COPY, MEMORY, reg(RBP), mem(8), base=RBP)),
    ],
)
def test_stack_instructions_copy(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("480f44c3 cmove rax, rbx", Rule(RuleKind.COPY, Bits.KEEPS_TARGET, reg(RAX), reg(RBX))),
        (
            "0f4806 cmovs eax, dword ptr [rsi]",
            Rule(RuleKind.COPY, Bits.KEEPS_TARGET | MEMORY, reg(RAX, 4), mem(4), base=RSI),
        ),
    ],
)
def test_conditional_moves_may_keep_their_target(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4893 xchg rbx, rax", Rule(RuleKind.SWAP, NO_BITS, reg(RBX), reg(RAX))),
        ("488707 xchg qword ptr [rdi], rax", Rule(RuleKind.SWAP, MEMORY, mem(8), reg(RAX), base=RDI)),
        (
            "f00fc107 lock xadd dword ptr [rdi], eax",
            Rule(RuleKind.ADDSWAP, MEMORY, mem(4), reg(RAX, 4), base=RDI),
        ),
        (
            "f0480fb10f lock cmpxchg qword ptr [rdi], rcx",
            Rule(RuleKind.COMPARESWAP, MEMORY | Bits.KEEPS_TARGET, mem(8), reg(RCX), base=RDI),
        ),
    ],
)
def test_exchanges_know_which_operand_is_memory(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("6698 cbw", Rule(RuleKind.COPY, Bits.SIGN_EXTENDS, reg(RAX, 2), reg(RAX, 1))),
        ("98 cwde", Rule(RuleKind.COPY, Bits.SIGN_EXTENDS, reg(RAX, 4), reg(RAX, 2))),
        ("4898 cdqe", Rule(RuleKind.COPY, Bits.SIGN_EXTENDS, reg(RAX), reg(RAX, 4))),
    ],
)
def test_sign_extensions_of_the_accumulator_copy(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        (
            "f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]",
            Rule(RuleKind.STRING, MEMORY, mem(1), mem(1), base=RSI, index=RDI),
        ),
        (
            "48a5 movsq qword ptr [rdi], qword ptr [rsi]",
            Rule(RuleKind.STRING, MEMORY, mem(8), mem(8), base=RSI, index=RDI),
        ),
        ("f3ab rep stosd dword ptr [rdi], eax", Rule(RuleKind.STRING, MEMORY, mem(4), reg(RAX, 4), base=RDI)),
        ("66ad lodsw ax, word ptr [rsi]", Rule(RuleKind.STRING, MEMORY, reg(RAX, 2), mem(2), base=RSI)),
        (
            "f3a6 repe cmpsb byte ptr [rsi], byte ptr [rdi]",
            Rule(RuleKind.GENERIC, MEMORY | WRITES | Bits.TWO_STRINGS, base=RSI, index=RDI),
        ),
        (
            "f2ae repne scasb al, byte ptr [rdi]",
            Rule(RuleKind.GENERIC, MEMORY | WRITES, base=RDI, reads=1 << RAX),
        ),
    ],
)
def test_string_instructions_go_by_rsi_and_rdi(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "reads", "writes"),
    [
        ("f20f1008 movsd xmm1, qword ptr [rax]", set(), {17}),
        ("f20f1108 movsd qword ptr [rax], xmm1", {17}, set()),
        ("f20fc2ca02 cmplesd xmm1, xmm2", {17, 18}, {17}),
    ],
)
def test_a_vector_instruction_named_like_a_string_instruction_gets_the_generic_rule(
    listing: str, reads: set[int], writes: set[int]
) -> None:
    unknown: Counter[str] = Counter()
    rule = decoded(listing, Decoder(StaticTargets(), unknown)).rule
    assert rule.kind == RuleKind.GENERIC
    assert rule.base in (RAX, NO_REGISTER)
    assert (numbers(rule.reads), numbers(rule.writes)) == (reads, writes)
    assert unknown.total() == 1
