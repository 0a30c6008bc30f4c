"""Basic blocks: where they end, jumps, static references, trampolines, arbitrary bytes."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from assembly import assembled
from hypothesis import example, given
from hypothesis import strategies as st
from rule_notation import (
    ADDRESS,
    MEMORY,
    NO_BITS,
    R8,
    RAX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    TEXT,
    WINDOW,
    WRITES,
    check,
    decoded,
    home_decoder,
    mem,
    reg,
    twin_decoder,
)

from hybridbridge_vol.bridge.taint.decoder import MAX_BLOCK, Decoder
from hybridbridge_vol.bridge.taint.operands import StaticTargets
from hybridbridge_vol.bridge.taint.registers import GENERAL_BYTES, VECTOR_SIZE
from hybridbridge_vol.bridge.taint.rules import (
    RULE_FORMAT,
    Bits,
    Operand,
    OperandKind,
    Rule,
    RuleKind,
    trampoline,
)

# --- blocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("ffd0 call rax", Rule(RuleKind.JUMP, Bits.PUSHES, source=reg(RAX))),
        ("ffe0 jmp rax", Rule(RuleKind.JUMP, source=reg(RAX))),
        (
            "ff24c7 jmp qword ptr [rdi + rax*8]",
            Rule(RuleKind.JUMP, MEMORY, source=mem(8), base=RDI, index=RAX),
        ),
        ("ff17 call qword ptr [rdi]", Rule(RuleKind.JUMP, MEMORY | Bits.PUSHES, source=mem(8), base=RDI)),
        ("e810000000 call 0x15", Rule(RuleKind.JUMP, Bits.PUSHES)),
        ("eb10 jmp 0x12", Rule(RuleKind.NONE)),
        ("7510 jne 0x12", Rule(RuleKind.NONE)),
        ("c3 ret", Rule(RuleKind.NONE)),
    ],
)
def test_an_indirect_jump_names_the_source_of_its_target(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    "last",
    [
        "eb10 jmp 0x12", "7510 jne 0x12", "ffe0 jmp rax", "e810000000 call 0x15", "ff17 call qword ptr [rdi]",
        "c3 ret", "48cf iretq", "0f0b ud2", "f4 hlt", "cc int3", "e310 jrcxz 0x12", "e210 loop 0x12",
    ],
)  # fmt: skip
def test_a_block_ends_at_the_first_instruction_that_may_branch(last: str) -> None:
    code = assembled(f"90 nop\n89d8 mov eax, ebx\n{last}\n90 nop")
    block = home_decoder().block(code, TEXT)
    assert [instruction.vaddr - TEXT for instruction in block] == [0, 1, 3]
    assert [instruction.ends_block for instruction in block] == [False, False, True]


def test_a_ud1_ends_a_block_and_includes_its_operands() -> None:
    """Capstone leaves the operands of `ud1` out; they are not executed, but they are not the next
    instruction."""
    block = home_decoder().block(bytes.fromhex("90 67480fb93a e800000000"), TEXT)
    assert [(instruction.vaddr - TEXT, instruction.size) for instruction in block] == [(0, 1), (1, 5)]
    assert block[-1].ends_block
    assert block[-1].rule == Rule(RuleKind.NONE)


def test_a_block_ends_before_bytes_that_are_not_an_instruction() -> None:
    block = home_decoder().block(b"\x90\x06\x90", TEXT)
    assert [instruction.vaddr for instruction in block] == [TEXT]
    assert home_decoder().block(b"\x06", TEXT) == []
    assert home_decoder().block(b"", TEXT) == []


def test_a_block_has_at_most_so_many_instructions() -> None:
    assert len(home_decoder().block(b"\x90" * 1000, TEXT)) == MAX_BLOCK


# --- static references ------------------------------------------------------------------------------------

STATIC = MEMORY | Bits.STATIC


@pytest.mark.parametrize(
    ("listing", "field"),
    [
        ("488b0500100000 mov rax, qword ptr [rip + 0x1000]", 3),
        ("48c7050010000005000000 mov qword ptr [rip + 0x1000], 5", 3),
        ("488b042500000091 mov rax, qword ptr [0xffffffff91000000]", 4),
        ("488b04fd00100091 mov rax, qword ptr [rdi*8 - 0x6efff000]", 4),
        ("8a8700100091 mov al, byte ptr [rdi - 0x6efff000]", 2),
    ],
)
def test_a_memory_operand_in_the_window_is_a_static_reference_of_the_twins(listing: str, field: int) -> None:
    instruction = decoded(listing, twin_decoder())
    assert instruction.rule.bits & STATIC == STATIC
    assert instruction.static_field == field
    home = decoded(listing)
    assert home.rule.bits & STATIC == MEMORY
    assert home.static_field == 0


@pytest.mark.parametrize(
    "listing",
    [
        "488b0500400000 mov rax, qword ptr [rip + 0x4000]",
        "488b0500f0ffff mov rax, qword ptr [rip - 0x1000]",
        "488b8700100000 mov rax, qword ptr [rdi + 0x1000]",
        "65488b042500000091 mov rax, qword ptr gs:[0xffffffff91000000]",
        "65488b0500100000 mov rax, qword ptr gs:[rip + 0x1000]",
    ],
)
def test_an_operand_outside_of_the_window_or_relative_to_gs_is_not_a_static_reference(listing: str) -> None:
    instruction = decoded(listing, twin_decoder())
    assert instruction.rule.bits & STATIC == MEMORY
    assert instruction.static_field == 0


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("48c7c000100091 mov rax, 0xffffffff91001000", Rule(RuleKind.COPY, NO_BITS, reg(RAX), ADDRESS)),
        (
            "48c70700100091 mov qword ptr [rdi], 0xffffffff91001000",
            Rule(RuleKind.COPY, MEMORY, mem(8), ADDRESS, base=RDI),
        ),
        ("6800100091 push -0x6efff000", Rule(RuleKind.COPY, MEMORY | Bits.PUSHES, mem(8), ADDRESS, base=RSP)),
        ("480500100091 add rax, -0x6efff000", Rule(RuleKind.ALU, WRITES, reg(RAX), reg(RAX), ADDRESS)),
        ("483d00100091 cmp rax, -0x6efff000", Rule(RuleKind.ALU, WRITES, Operand(), reg(RAX), ADDRESS)),
    ],
)
def test_an_immediate_in_the_window_is_a_snapshot_address(listing: str, rule: Rule) -> None:
    assert decoded(listing, twin_decoder()).rule == rule


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("488d0500100000 lea rax, [rip + 0x1000]", Rule(RuleKind.ALU, Bits.STATIC, reg(RAX))),
        (
            "488d04fd00100091 lea rax, [rdi*8 - 0x6efff000]",
            Rule(RuleKind.ALU, Bits.STATIC, reg(RAX), reg(RDI)),
        ),
        (
            "488d843700100091 lea rax, [rdi + rsi - 0x6efff000]",
            Rule(RuleKind.ALU, Bits.STATIC, reg(RAX), reg(RDI), reg(RSI)),
        ),
    ],
)
def test_lea_of_a_static_address_adds_to_it(listing: str, rule: Rule) -> None:
    assert decoded(listing, twin_decoder()).rule == rule


# --- trampolines ------------------------------------------------------------------------------------------


def test_a_trampoline_names_the_registers_of_arguments_that_must_be_trusted() -> None:
    assert trampoline(0b111111).reads == sum(1 << number for number in (RDI, RSI, RDX, RCX, R8, 9))
    assert trampoline(0b10) == Rule(RuleKind.TRAMPOLINE, reads=1 << RSI)
    assert trampoline(0b10, optional=True) == Rule(RuleKind.TRAMPOLINE, reads=1 << RSI, writes=1)


# --- bad input --------------------------------------------------------------------------------------------

PREFIXES = [
    b"",
    b"\x0f",
    b"\x66\x0f",
    b"\xf3\x0f",
    b"\xf2\x0f",
    b"\x0f\x38",
    b"\x0f\x3a",
    b"\xf3\x0f\x01",
    b"\xc5",
    b"\x62",
]


@example(b"\xf3\x0f\x01", b"\xe8")  # setssbsy: no operand, but the name of a family that has one
@given(st.sampled_from(PREFIXES), st.binary(max_size=64))
def test_any_bytes_decode_to_rules_that_the_engine_accepts(prefix: bytes, rest: bytes) -> None:
    code = prefix + rest
    end = TEXT
    for instruction in twin_decoder().block(code, TEXT):
        rule = instruction.rule
        assert instruction.vaddr == end
        end += instruction.size
        assert len(rule.pack()) == struct.calcsize(RULE_FORMAT) == 32
        assert instruction.static_field < instruction.size
        for operand in (rule.target, rule.source, rule.second):
            assert operand.size <= 64
            if operand.kind is OperandKind.REGISTER:
                assert operand.slot + operand.size <= GENERAL_BYTES + 16 * VECTOR_SIZE
    assert end <= TEXT + len(code)


@pytest.mark.parametrize(
    "code",
    [
        "c5f1efc2",  # vpxor xmm0, xmm1, xmm2
        "c5fd6f06",  # vmovdqa ymm0, ymmword ptr [rsi]
        "c4e27918c1",  # vbroadcastss xmm0, xmm1
        "65c5fa6f00",  # vmovdqu xmm0, xmmword ptr gs:[rax]
        "62f1fd086f06",  # vmovdqa64 xmm0, xmmword ptr [rsi]
        "8fe978c1c1",  # vphaddbw xmm0, xmm1, of XOP
    ],
)
def test_instructions_of_avx_end_the_code_because_unicorn_runs_them_wrongly(code: str) -> None:
    block = twin_decoder().block(b"\x90" + bytes.fromhex(code) + b"\x90\xc3", TEXT)
    assert [instruction.size for instruction in block] == [1]


@pytest.mark.parametrize(
    "code",
    [
        "c4e2f9f7c1",  # shlx rax, rcx, rax
        "c4e3fbf0c105",  # rorx rax, rcx, 5
        "c4e2f0f2c2",  # andn rax, rcx, rdx
        "660fefc1",  # pxor xmm0, xmm1
        "8f4008",  # pop qword ptr [rax + 8]
    ],
)
def test_others_with_such_a_prefix_are_code(code: str) -> None:
    raw = bytes.fromhex(code)
    assert [instruction.size for instruction in twin_decoder().block(raw + b"\xc3", TEXT)] == [len(raw), 1]


def test_an_immediate_that_the_snapshot_s_kernel_wrote_into_its_text_is_its_address() -> None:
    """`dentry_hashtable`, since 6.11."""
    table = 0xFFFF_8880_1122_3300
    decoder = Decoder(StaticTargets((WINDOW,), pointers=frozenset([table])), Counter())
    own, other = (
        "48ba003322118088ffff movabs rdx, 0xffff888011223300",
        "48ba083322118088ffff movabs rdx, 0xffff888011223308",
    )
    assert decoded(own, decoder).rule == Rule(RuleKind.COPY, NO_BITS, reg(RDX), ADDRESS)
    assert decoded(other, decoder).rule.kind == RuleKind.CLEAR
