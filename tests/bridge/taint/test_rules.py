"""Transfer rules: what each family of x86-64 instructions does to labels."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from assembly import assembled
from hypothesis import example, given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.taint.decoder import GENERAL_BYTES, MAX_BLOCK, VECTOR_SIZE, Decoder, Instruction
from hybridbridge_vol.bridge.taint.rules import (
    NO_REGISTER,
    RULE_FORMAT,
    Bits,
    Kind,
    Operand,
    Place,
    Rule,
    trampoline,
)

TEXT = 0xFFFF_FFFF_9100_0000
STATICS = range(TEXT, TEXT + 0x4000)
"""Virtual addresses that the twin's static references reach the snapshot at."""

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 = range(9)
WRITES, READS, MEMORY = Bits.WRITES_FLAGS, Bits.READS_FLAGS, Bits.MEMORY
NO_BITS = Bits(0)
ADDRESS = Operand(Place.SNAPSHOT_ADDRESS, 0, 8)


def home_decoder() -> Decoder:
    return Decoder((), Counter())


def twin_decoder() -> Decoder:
    return Decoder((STATICS,), Counter())


def reg(number: int, size: int = 8, first: int = 0) -> Operand:
    """A general register's bytes."""
    return Operand(Place.REGISTER, 8 * number + first, size)


def vector(number: int, size: int = VECTOR_SIZE) -> Operand:
    return Operand(Place.REGISTER, GENERAL_BYTES + number * VECTOR_SIZE, size)


def mem(size: int) -> Operand:
    return Operand(Place.MEMORY, 0, size)


def constant(size: int) -> Operand:
    return Operand(Place.CONSTANT, 0, size)


def decoded(listing: str, decoder: Decoder | None = None) -> Instruction:
    """The one instruction of a listing; it stands at `TEXT`."""
    (instruction,) = (decoder or home_decoder()).block(assembled(listing), TEXT)
    return instruction


def check(listing: str, rule: Rule) -> None:
    assert decoded(listing).rule == rule


def numbers(mask: int) -> set[int]:
    """Registers of a generic rule: the general ones from 0, the vectors from 16."""
    return {number for number in range(32) if mask >> number & 1}


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
        ("4889d8 mov rax, rbx", Rule(Kind.COPY, NO_BITS, reg(RAX), reg(RBX))),
        ("88dc mov ah, bl", Rule(Kind.COPY, NO_BITS, reg(RAX, 1, first=1), reg(RBX, 1))),
        ("8b06 mov eax, dword ptr [rsi]", Rule(Kind.COPY, MEMORY, reg(RAX, 4), mem(4), base=RSI)),
        (
            "88444f08 mov byte ptr [rdi + rcx*2 + 8], al",
            Rule(Kind.COPY, MEMORY, mem(1), reg(RAX, 1), base=RDI, index=RCX),
        ),
        (
            "a08877665544332211 movabs al, byte ptr [0x1122334455667788]",
            Rule(Kind.COPY, MEMORY, reg(RAX, 1), mem(1)),
        ),
        ("480fc307 movnti qword ptr [rdi], rax", Rule(Kind.COPY, MEMORY, mem(8), reg(RAX), base=RDI)),
        ("0fb606 movzx eax, byte ptr [rsi]", Rule(Kind.COPY, MEMORY, reg(RAX, 4), mem(1), base=RSI)),
        ("0fb6c7 movzx eax, bh", Rule(Kind.COPY, NO_BITS, reg(RAX, 4), reg(RBX, 1, first=1))),
        ("480fbec3 movsx rax, bl", Rule(Kind.COPY, Bits.SIGN_EXTENDS, reg(RAX), reg(RBX, 1))),
        ("4863c3 movsxd rax, ebx", Rule(Kind.COPY, Bits.SIGN_EXTENDS, reg(RAX), reg(RBX, 4))),
        ("f30f6f06 movdqu xmm0, xmmword ptr [rsi]", Rule(Kind.COPY, MEMORY, vector(0), mem(16), base=RSI)),
        ("66480f6ec8 movq xmm1, rax", Rule(Kind.COPY, NO_BITS, vector(1), reg(RAX))),
        ("66480f7ec8 movq rax, xmm1", Rule(Kind.COPY, NO_BITS, reg(RAX), vector(1, 8))),
        ("660f7ec8 movd eax, xmm1", Rule(Kind.COPY, NO_BITS, reg(RAX, 4), vector(1, 4))),
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
    check(listing, Rule(Kind.CLEAR, NO_BITS, target))


def test_a_constant_cleans_memory() -> None:
    check("c70705000000 mov dword ptr [rdi], 5", Rule(Kind.CLEAR, MEMORY, mem(4), base=RDI))


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4801d8 add rax, rbx", Rule(Kind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        (
            "830701 add dword ptr [rdi], 1",
            Rule(Kind.ALU, WRITES | MEMORY, mem(4), mem(4), constant(4), base=RDI),
        ),
        (
            "482b06 sub rax, qword ptr [rsi]",
            Rule(Kind.ALU, Bits.SUBTRACTS | WRITES | MEMORY, reg(RAX), reg(RAX), mem(8), base=RSI),
        ),
        ("11d8 adc eax, ebx", Rule(Kind.ALU, WRITES | READS, reg(RAX, 4), reg(RAX, 4), reg(RBX, 4))),
        ("ffc1 inc ecx", Rule(Kind.ALU, WRITES, reg(RCX, 4), reg(RCX, 4))),
        ("48f7da neg rdx", Rule(Kind.ALU, WRITES, reg(RDX), reg(RDX))),
        ("48d3e0 shl rax, cl", Rule(Kind.ALU, WRITES, reg(RAX), reg(RAX), reg(RCX, 1))),
        ("48d3d0 rcl rax, cl", Rule(Kind.ALU, WRITES | READS, reg(RAX), reg(RAX), reg(RCX, 1))),
        ("480fa4d803 shld rax, rbx, 3", Rule(Kind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        ("480fabd8 bts rax, rbx", Rule(Kind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        ("480fafc3 imul rax, rbx", Rule(Kind.ALU, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        ("486bc307 imul rax, rbx, 7", Rule(Kind.ALU, WRITES, reg(RAX), reg(RBX), constant(8))),
        ("480fbcc3 bsf rax, rbx", Rule(Kind.ALU, NO_BITS, reg(RAX), reg(RBX))),
        ("f30fb806 popcnt eax, dword ptr [rsi]", Rule(Kind.ALU, MEMORY, reg(RAX, 4), mem(4), base=RSI)),
        ("0fc8 bswap eax", Rule(Kind.ALU, NO_BITS, reg(RAX, 4), reg(RAX, 4))),
        ("c4e2f1f7c3 shlx rax, rbx, rcx", Rule(Kind.ALU, NO_BITS, reg(RAX), reg(RBX), reg(RCX))),
        ("f20f38f0c2 crc32 eax, dl", Rule(Kind.ALU, NO_BITS, reg(RAX, 4), reg(RAX, 4), reg(RDX, 1))),
        ("4899 cqo", Rule(Kind.ALU, NO_BITS, reg(RDX), reg(RAX))),
        ("99 cdq", Rule(Kind.ALU, NO_BITS, reg(RDX, 4), reg(RAX, 4))),
    ],
)
def test_arithmetic_joins_its_operands_in_every_byte(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4839d8 cmp rax, rbx", Rule(Kind.ALU, WRITES, Operand(), reg(RAX), reg(RBX))),
        (
            "803e00 cmp byte ptr [rsi], 0",
            Rule(Kind.ALU, WRITES | MEMORY, Operand(), mem(1), constant(1), base=RSI),
        ),
        ("480fbae003 bt rax, 3", Rule(Kind.ALU, WRITES, Operand(), reg(RAX), constant(1))),
        ("84c0 test al, al", Rule(Kind.BITS, WRITES, Operand(), reg(RAX, 1), reg(RAX, 1))),
    ],
)
def test_comparisons_label_nothing_but_the_flags(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("0f94c0 sete al", Rule(Kind.ALU, READS, reg(RAX, 1), constant(1))),
        ("0f9507 setne byte ptr [rdi]", Rule(Kind.ALU, READS | MEMORY, mem(1), constant(1), base=RDI)),
        ("4819c0 sbb rax, rax", Rule(Kind.ALU, READS | WRITES, reg(RAX), constant(1))),
    ],
)
def test_what_is_made_of_flags_alone_has_their_label(listing: str, rule: Rule) -> None:
    check(listing, rule)


ALL = (1 << 64) - 1


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4821d8 and rax, rbx", Rule(Kind.BITS, WRITES, reg(RAX), reg(RAX), reg(RBX))),
        (
            "480907 or qword ptr [rdi], rax",
            Rule(Kind.BITS, WRITES | MEMORY, mem(8), mem(8), reg(RAX), base=RDI),
        ),
        ("31d8 xor eax, ebx", Rule(Kind.BITS, WRITES, reg(RAX, 4), reg(RAX, 4), reg(RBX, 4))),
        ("4883f005 xor rax, 5", Rule(Kind.BITS, WRITES, reg(RAX), reg(RAX), constant(8))),
    ],
)
def test_bitwise_operations_join_each_byte_with_its_partner(listing: str, rule: Rule) -> None:
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
    assert (rule.kind, rule.mask & (1 << 8 * rule.source.size) - 1) == (Kind.BITS, mask)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("31c0 xor eax, eax", Rule(Kind.CLEAR, WRITES, reg(RAX, 4))),
        ("4829c0 sub rax, rax", Rule(Kind.CLEAR, WRITES, reg(RAX))),
        ("660fefc0 pxor xmm0, xmm0", Rule(Kind.CLEAR, NO_BITS, vector(0))),
    ],
)
def test_a_register_combined_with_itself_to_zero_is_clean(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("488d44b708 lea rax, [rdi + rsi*4 + 8]", Rule(Kind.ALU, NO_BITS, reg(RAX), reg(RDI), reg(RSI))),
        ("8d4708 lea eax, [rdi + 8]", Rule(Kind.ALU, NO_BITS, reg(RAX, 4), reg(RDI))),
        ("488d0500100000 lea rax, [rip + 0x1000]", Rule(Kind.CLEAR, NO_BITS, reg(RAX))),
    ],
)
def test_lea_is_arithmetic_and_touches_no_memory(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("50 push rax", Rule(Kind.COPY, MEMORY | Bits.PUSHES, mem(8), reg(RAX), base=RSP)),
        ("58 pop rax", Rule(Kind.COPY, MEMORY | Bits.POPS, reg(RAX), mem(8), base=RSP)),
        ("ff37 push qword ptr [rdi]", Rule(Kind.COPY, MEMORY | Bits.PUSHES, mem(8), mem(8), base=RDI)),
        ("8f07 pop qword ptr [rdi]", Rule(Kind.COPY, MEMORY | Bits.POPS, mem(8), mem(8), base=RDI)),
        ("6a05 push 5", Rule(Kind.COPY, MEMORY | Bits.PUSHES, mem(8), constant(8), base=RSP)),
        ("c9 leave", Rule(Kind.COPY, MEMORY, reg(RBP), mem(8), base=RBP)),
    ],
)
def test_the_stack_copies(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("480f44c3 cmove rax, rbx", Rule(Kind.COPY, Bits.KEEPS_TARGET, reg(RAX), reg(RBX))),
        (
            "0f4806 cmovs eax, dword ptr [rsi]",
            Rule(Kind.COPY, Bits.KEEPS_TARGET | MEMORY, reg(RAX, 4), mem(4), base=RSI),
        ),
    ],
)
def test_conditional_moves_may_keep_their_target(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("4893 xchg rbx, rax", Rule(Kind.SWAP, NO_BITS, reg(RBX), reg(RAX))),
        ("488707 xchg qword ptr [rdi], rax", Rule(Kind.SWAP, MEMORY, mem(8), reg(RAX), base=RDI)),
        (
            "f00fc107 lock xadd dword ptr [rdi], eax",
            Rule(Kind.ADDSWAP, MEMORY, mem(4), reg(RAX, 4), base=RDI),
        ),
        (
            "f0480fb10f lock cmpxchg qword ptr [rdi], rcx",
            Rule(Kind.COMPARESWAP, MEMORY | Bits.KEEPS_TARGET, mem(8), reg(RCX), base=RDI),
        ),
    ],
)
def test_exchanges_know_which_operand_is_memory(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("6698 cbw", Rule(Kind.COPY, Bits.SIGN_EXTENDS, reg(RAX, 2), reg(RAX, 1))),
        ("98 cwde", Rule(Kind.COPY, Bits.SIGN_EXTENDS, reg(RAX, 4), reg(RAX, 2))),
        ("4898 cdqe", Rule(Kind.COPY, Bits.SIGN_EXTENDS, reg(RAX), reg(RAX, 4))),
    ],
)
def test_sign_extensions_of_the_accumulator_copy(listing: str, rule: Rule) -> None:
    check(listing, rule)


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        (
            "f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]",
            Rule(Kind.STRING, MEMORY, mem(1), mem(1), base=RSI, index=RDI),
        ),
        (
            "48a5 movsq qword ptr [rdi], qword ptr [rsi]",
            Rule(Kind.STRING, MEMORY, mem(8), mem(8), base=RSI, index=RDI),
        ),
        ("f3ab rep stosd dword ptr [rdi], eax", Rule(Kind.STRING, MEMORY, mem(4), reg(RAX, 4), base=RDI)),
        ("66ad lodsw ax, word ptr [rsi]", Rule(Kind.STRING, MEMORY, reg(RAX, 2), mem(2), base=RSI)),
        (
            "f3a6 repe cmpsb byte ptr [rsi], byte ptr [rdi]",
            Rule(Kind.GENERIC, MEMORY | WRITES | Bits.TWO_STRINGS, base=RSI, index=RDI),
        ),
        (
            "f2ae repne scasb al, byte ptr [rdi]",
            Rule(Kind.GENERIC, MEMORY | WRITES, base=RDI, reads=1 << RAX),
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
def test_vector_instructions_with_the_name_of_a_string_instruction_are_none(
    listing: str, reads: set[int], writes: set[int]
) -> None:
    unknown: Counter[str] = Counter()
    rule = decoded(listing, Decoder((), unknown)).rule
    assert rule.kind == Kind.GENERIC
    assert rule.base in (RAX, NO_REGISTER)
    assert (numbers(rule.reads), numbers(rule.writes)) == (reads, writes)
    assert unknown.total() == 1


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("ffd0 call rax", Rule(Kind.JUMP, Bits.PUSHES, source=reg(RAX))),
        ("ffe0 jmp rax", Rule(Kind.JUMP, source=reg(RAX))),
        ("ff24c7 jmp qword ptr [rdi + rax*8]", Rule(Kind.JUMP, MEMORY, source=mem(8), base=RDI, index=RAX)),
        ("ff17 call qword ptr [rdi]", Rule(Kind.JUMP, MEMORY | Bits.PUSHES, source=mem(8), base=RDI)),
        ("e810000000 call 0x15", Rule(Kind.JUMP, Bits.PUSHES)),
        ("eb10 jmp 0x12", Rule(Kind.NONE)),
        ("7510 jne 0x12", Rule(Kind.NONE)),
        ("c3 ret", Rule(Kind.NONE)),
    ],
)
def test_jumps_tell_where_their_target_comes_from(listing: str, rule: Rule) -> None:
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
    check(listing, Rule(Kind.NONE))


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
    assert (rule.kind, rule.bits) == (Kind.GENERIC, bits)
    assert (numbers(rule.reads), numbers(rule.writes)) == (reads, writes)


def test_what_a_register_keeps_beside_the_part_that_is_written_is_an_input_of_the_generic_rule() -> None:
    assert numbers(decoded("f6e1 mul cl").rule.reads) == {RAX, RCX}
    assert numbers(decoded("660f02ca lar cx, dx").rule.reads) == {RCX, RDX}
    assert numbers(decoded("0f02ca lar ecx, edx").rule.reads) == {RDX}


def test_an_address_is_no_input_of_the_generic_rule() -> None:
    rule = decoded("48f736 div qword ptr [rsi]").rule
    assert rule.reads == 1 << RAX | 1 << RDX
    assert (rule.bits & MEMORY, rule.base) == (MEMORY, RSI)


def test_an_unknown_instruction_gets_the_generic_rule_and_is_counted_by_name() -> None:
    unknown: Counter[str] = Counter()
    decoder = Decoder((), unknown)
    for _ in range(2):
        rule = decoded("660ffcca paddb xmm1, xmm2", decoder).rule
        assert rule == Rule(Kind.GENERIC, reads=1 << 17 | 1 << 18, writes=1 << 17)
    decoded("48f7e1 mul rcx", decoder)
    assert unknown == {"paddb": 2}


# --- blocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        "eb10 jmp 0x12", "7510 jne 0x12", "ffe0 jmp rax", "e810000000 call 0x15", "ff17 call qword ptr [rdi]", "c3 ret", "48cf iretq",
        "0f0b ud2", "f4 hlt", "cc int3", "e310 jrcxz 0x12", "e210 loop 0x12",
    ],
)  # fmt: skip
def test_a_block_ends_at_the_first_instruction_that_may_go_elsewhere(last: str) -> None:
    code = assembled(f"90 nop\n89d8 mov eax, ebx\n{last}\n90 nop")
    block = home_decoder().block(code, TEXT)
    assert [instruction.vaddr - TEXT for instruction in block] == [0, 1, 3]
    assert [instruction.ends for instruction in block] == [False, False, True]


def test_a_warning_ends_a_block_and_is_whole() -> None:
    """Capstone leaves the operands of `ud1` out; they are not executed, but they are not the next
    instruction."""
    block = home_decoder().block(bytes.fromhex("90 67480fb93a e800000000"), TEXT)
    assert [(instruction.vaddr - TEXT, instruction.size) for instruction in block] == [(0, 1), (1, 5)]
    assert block[-1].ends
    assert block[-1].rule == Rule(Kind.NONE)


def test_a_block_ends_before_what_is_no_instruction() -> None:
    block = home_decoder().block(b"\x90\x06\x90", TEXT)
    assert [instruction.vaddr for instruction in block] == [TEXT]
    assert home_decoder().block(b"\x06", TEXT) == []
    assert home_decoder().block(b"", TEXT) == []


def test_a_block_is_decoded_in_pieces() -> None:
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
def test_what_lies_outside_of_the_window_or_is_per_cpu_is_no_static_reference(listing: str) -> None:
    instruction = decoded(listing, twin_decoder())
    assert instruction.rule.bits & STATIC == MEMORY
    assert instruction.static_field == 0


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("48c7c000100091 mov rax, 0xffffffff91001000", Rule(Kind.COPY, NO_BITS, reg(RAX), ADDRESS)),
        (
            "48c70700100091 mov qword ptr [rdi], 0xffffffff91001000",
            Rule(Kind.COPY, MEMORY, mem(8), ADDRESS, base=RDI),
        ),
        ("6800100091 push -0x6efff000", Rule(Kind.COPY, MEMORY | Bits.PUSHES, mem(8), ADDRESS, base=RSP)),
        ("480500100091 add rax, -0x6efff000", Rule(Kind.ALU, WRITES, reg(RAX), reg(RAX), ADDRESS)),
        ("483d00100091 cmp rax, -0x6efff000", Rule(Kind.ALU, WRITES, Operand(), reg(RAX), ADDRESS)),
    ],
)
def test_an_immediate_in_the_window_is_an_address_of_the_snapshots(listing: str, rule: Rule) -> None:
    assert decoded(listing, twin_decoder()).rule == rule


@pytest.mark.parametrize(
    ("listing", "rule"),
    [
        ("488d0500100000 lea rax, [rip + 0x1000]", Rule(Kind.ALU, Bits.STATIC, reg(RAX))),
        ("488d04fd00100091 lea rax, [rdi*8 - 0x6efff000]", Rule(Kind.ALU, Bits.STATIC, reg(RAX), reg(RDI))),
        (
            "488d843700100091 lea rax, [rdi + rsi - 0x6efff000]",
            Rule(Kind.ALU, Bits.STATIC, reg(RAX), reg(RDI), reg(RSI)),
        ),
    ],
)
def test_lea_of_a_static_address_adds_to_it(listing: str, rule: Rule) -> None:
    assert decoded(listing, twin_decoder()).rule == rule


# --- trampolines --------------------------------------------------------------------------------------------


def test_a_trampoline_names_the_registers_of_the_arguments_that_must_be_ours() -> None:
    assert trampoline(0b111111).reads == sum(1 << number for number in (RDI, RSI, RDX, RCX, R8, 9))
    assert trampoline(0b10) == Rule(Kind.TRAMPOLINE, reads=1 << RSI)
    assert trampoline(0b10, lenient=True) == Rule(Kind.TRAMPOLINE, reads=1 << RSI, writes=1)


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
def test_any_bytes_decode_to_rules_that_fit_the_engine(prefix: bytes, rest: bytes) -> None:
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
            if operand.place is Place.REGISTER:
                assert operand.slot + operand.size <= GENERAL_BYTES + 16 * VECTOR_SIZE
    assert end <= TEXT + len(code)
