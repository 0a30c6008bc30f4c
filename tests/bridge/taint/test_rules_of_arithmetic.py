"""Transfer rules of instructions that compute, and the generic rule."""

from __future__ import annotations

from collections import Counter

import pytest
from rule_notation import (
    MEMORY,
    NO_BITS,
    RAX,
    RBX,
    RCX,
    RDI,
    RDX,
    READS,
    RSI,
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
from hybridbridge_vol.bridge.taint.rules import Bits, Operand, Rule, RuleKind


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4801d8 add rax, rbx", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        (
            "830701 add dword ptr [rdi], 1",
            Rule(RuleKind.ALU, WRITES | MEMORY, mem(4), mem(4), constant(4), base=RDI),
        ),
        (
            "482b06 sub rax, qword ptr [rsi]",
            Rule(RuleKind.ALU, Bits.SUBTRACTS | WRITES | MEMORY, reg(RAX), reg(RAX), mem(8), base=RSI),
        ),
        ("11d8 adc eax, ebx", Rule(RuleKind.ALU, WRITES | READS, reg(RAX, 4), reg(RAX, 4), reg(RBX, 4))),
        ("ffc1 inc ecx", Rule(RuleKind.ALU, WRITES, reg(RCX, 4), reg(RCX, 4))),
        ("48f7da neg rdx", Rule(RuleKind.ALU, WRITES, reg(RDX), reg(RDX))),
        ("48d3e0 shl rax, cl", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RAX), reg(RCX, 1))),
        ("48d3d0 rcl rax, cl", Rule(RuleKind.ALU, WRITES | READS, reg(RAX), reg(RAX), reg(RCX, 1))),
        ("480fa4d803 shld rax, rbx, 3", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        ("480fabd8 bts rax, rbx", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        ("480fafc3 imul rax, rbx", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        ("486bc307 imul rax, rbx, 7", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RBX), constant(8))),
        ("480fbcc3 bsf rax, rbx", Rule(RuleKind.ALU, NO_BITS, reg(RAX), reg(RBX))),
        ("f30fb806 popcnt eax, dword ptr [rsi]", Rule(RuleKind.ALU, MEMORY, reg(RAX, 4), mem(4), base=RSI)),
        ("0fc8 bswap eax", Rule(RuleKind.ALU, NO_BITS, reg(RAX, 4), reg(RAX, 4))),
        ("c4e2f1f7c3 shlx rax, rbx, rcx", Rule(RuleKind.ALU, NO_BITS, reg(RAX), reg(RBX), reg(RCX))),
        ("f20f38f0c2 crc32 eax, dl", Rule(RuleKind.ALU, NO_BITS, reg(RAX, 4), reg(RAX, 4), reg(RDX, 1))),
        ("4899 cqo", Rule(RuleKind.ALU, NO_BITS, reg(RDX), reg(RAX))),
        ("99 cdq", Rule(RuleKind.ALU, NO_BITS, reg(RDX, 4), reg(RAX, 4))),
    ],
)
def test_arithmetic_joins_its_operands_in_every_byte(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4839d8 cmp rax, rbx", Rule(RuleKind.ALU, WRITES, Operand(), reg(RAX), reg(RBX))),
        (
            "803e00 cmp byte ptr [rsi], 0",
            Rule(RuleKind.ALU, WRITES | MEMORY, Operand(), mem(1), constant(1), base=RSI),
        ),
        ("480fbae003 bt rax, 3", Rule(RuleKind.ALU, WRITES, Operand(), reg(RAX), constant(1))),
        ("84c0 test al, al", Rule(RuleKind.BITS, WRITES, Operand(), reg(RAX, 1), reg(RAX, 1))),
    ],
)
def test_comparisons_label_only_the_flags(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("0f94c0 sete al", Rule(RuleKind.ALU, READS, reg(RAX, 1), constant(1))),
        ("0f9507 setne byte ptr [rdi]", Rule(RuleKind.ALU, READS | MEMORY, mem(1), constant(1), base=RDI)),
        ("4819c0 sbb rax, rax", Rule(RuleKind.ALU, READS | WRITES, reg(RAX), constant(1))),
    ],
)
def test_a_result_made_of_flags_alone_has_their_label(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4821d8 and rax, rbx", Rule(RuleKind.BITS, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        (
            "480907 or qword ptr [rdi], rax",
            Rule(RuleKind.BITS, WRITES | MEMORY, mem(8), mem(8), reg(RAX), base=RDI),
        ),
        ("31d8 xor eax, ebx", Rule(RuleKind.BITS, WRITES, reg(RAX, 4), reg(RAX, 4), reg(RBX, 4))),
        ("4883f005 xor rax, 5", Rule(RuleKind.BITS, WRITES, reg(RAX), reg(RAX), constant(8))),
    ],
)
def test_bitwise_operations_join_byte_by_byte(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "mask"),
    [
        ("2500ff0000 and eax, 0xff00", 0xFF00),
        ("4883e010 and rax, 0x10", 0xFF),
        ("482500f0ffff and rax, 0xfffffffffffff000", 0xFFFF_FFFF_FFFF_FF00 | 0xFF00),
        ("a900008000 test eax, 0x800000", 0xFF_0000),
    ],
)
def test_bytes_masked_away_become_clean(listing: str, mask: int) -> None:
    rule = decoded(listing).rule
    assert (rule.kind, rule.mask & (1 << 8 * rule.source.size) - 1) == (RuleKind.BITS, mask)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("31c0 xor eax, eax", Rule(RuleKind.CLEAR, WRITES, reg(RAX, 4))),
        ("4829c0 sub rax, rax", Rule(RuleKind.CLEAR, WRITES, reg(RAX))),
        ("660fefc0 pxor xmm0, xmm0", Rule(RuleKind.CLEAR, NO_BITS, vector(0))),
    ],
)
def test_a_register_combined_with_itself_to_zero_is_clean(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("488d44b708 lea rax, [rdi + rsi*4 + 8]", Rule(RuleKind.ALU, NO_BITS, reg(RAX), reg(RDI), reg(RSI))),
        ("8d4708 lea eax, [rdi + 8]", Rule(RuleKind.ALU, NO_BITS, reg(RAX, 4), reg(RDI))),
        ("488d0500100000 lea rax, [rip + 0x1000]", Rule(RuleKind.CLEAR, NO_BITS, reg(RAX))),
    ],
)
def test_lea_is_arithmetic_without_a_memory_access(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    "listing",
    [
        "90 nop",
        "f30f1efa endbr64",
        "0faee8 lfence",
        "fa cli",
        "f390 pause",
        "0f0b ud2",
        "cc int3",
        "0f30 wrmsr",
        "0f01f8 swapgs",
        "48f7d0 not rax",
    ],
)
def test_some_instructions_move_no_label(listing: str) -> None:
    check(listing, Rule(RuleKind.NONE))


@pytest.mark.parametrize(
    ("listing", "bits", "reads", "writes"),
    [
        ("48f7e1 mul rcx", WRITES, {RAX, RCX}, {RAX, RDX}),
        ("48f7f1 div rcx", WRITES, {RAX, RDX, RCX}, {RAX, RDX}),
        ("9f lahf", READS, {RAX}, {RAX}),
        ("ec in al, dx", NO_BITS, {RAX}, {RAX}),
        ("ed in eax, dx", NO_BITS, set(), {RAX}),
        ("0fa2 cpuid", NO_BITS, set(), {RAX, RBX, RCX, RDX}),
        ("0f31 rdtsc", NO_BITS, set(), {RAX, RDX}),
        ("0f32 rdmsr", NO_BITS, set(), {RAX, RDX}),
        ("9c pushfq", READS, set(), set()),
    ],
)
def test_the_generic_rule_makes_all_outputs_of_all_inputs(
    listing: str, bits: Bits, reads: set[int], writes: set[int]
) -> None:
    rule = decoded(listing).rule
    assert (rule.kind, rule.bits) == (RuleKind.GENERIC, bits)
    assert (numbers(rule.reads), numbers(rule.writes)) == (reads, writes)


def test_the_kept_part_of_a_partly_written_register_is_an_input_of_the_generic_rule() -> None:
    assert numbers(decoded("f6e1 mul cl").rule.reads) == {RAX, RCX}
    assert numbers(decoded("660f02ca lar cx, dx").rule.reads) == {RCX, RDX}
    assert numbers(decoded("0f02ca lar ecx, edx").rule.reads) == {RDX}


def test_an_address_is_not_an_input_of_the_generic_rule() -> None:
    rule = decoded("48f736 div qword ptr [rsi]").rule
    assert rule.reads == 1 << RAX | 1 << RDX
    assert (rule.bits & MEMORY, rule.base) == (MEMORY, RSI)


def test_an_unknown_instruction_gets_the_generic_rule_and_is_counted_by_name() -> None:
    unknown: Counter[str] = Counter()
    decoder = Decoder(StaticTargets(), unknown)
    for _ in range(2):
        rule = decoded("660ffcca paddb xmm1, xmm2", decoder).rule
        assert rule == Rule(RuleKind.GENERIC, reads=1 << 17 | 1 << 18, writes=1 << 17)
    decoded("48f7e1 mul rcx", decoder)
    assert unknown == {"paddb": 2}
