"""Labels of data under taint: what a byte is made of after it was copied.

Every test runs a few instructions on a real machine; what registers hold is looked at by storing it.
"""

from __future__ import annotations

import pytest
from small_machine import OURS, SNAPSHOT, SOURCE, STACK, USER_MEMORY, SmallMachine, each, word

from hybridbridge_vol.bridge.taint.labels import TRUSTED

# --- where labels come from -------------------------------------------------------------------------------


def test_each_byte_of_the_snapshot_is_its_own_origin(small: SmallMachine) -> None:
    assert small.origins(SNAPSHOT + 0x123, 3) == [{0x123}, {0x124}, {0x125}]


def test_the_trusted_kernels_variables_are_labelled_and_its_constants_are_clean(small: SmallMachine) -> None:
    assert small.labels(OURS, 1) == [TRUSTED]
    assert small.clean(small.put("90 nop"), 1)
    assert small.clean(USER_MEMORY, 1)


def test_what_python_writes_is_clean(small: SmallMachine) -> None:
    paddr = small.machine.translate(SOURCE)
    assert paddr is not None
    small.engine.clean(paddr.paddr - 0x10, 0x2000)
    assert small.clean(SNAPSHOT, 0x1000)
    assert small.clean(SNAPSHOT + 0x1000, 0x1000)
    assert small.origins(SNAPSHOT + 0x2000, 1) == [{0x2000}]


# --- copies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listing", "size"),
    [
        ("8a06 mov al, byte ptr [rsi]\n8807 mov byte ptr [rdi], al", 1),
        ("8a26 mov ah, byte ptr [rsi]\n8827 mov byte ptr [rdi], ah", 1),
        ("668b06 mov ax, word ptr [rsi]\n668907 mov word ptr [rdi], ax", 2),
        ("448b06 mov r8d, dword ptr [rsi]\n448907 mov dword ptr [rdi], r8d", 4),
        ("488b06 mov rax, qword ptr [rsi]\n4989c7 mov r15, rax\n4c893f mov qword ptr [rdi], r15", 8),
        ("f30f6f1e movdqu xmm3, xmmword ptr [rsi]\nf30f7f1f movdqu xmmword ptr [rdi], xmm3", 16),
        (
            "488b06 mov rax, qword ptr [rsi]\n66480f6ec0 movq xmm0, rax\n660fd607 movq qword ptr [rdi], xmm0",
            8,
        ),
        ("488b06 mov rax, qword ptr [rsi]\n50 push rax\n5b pop rbx\n48891f mov qword ptr [rdi], rbx", 8),
        ("ff36 push qword ptr [rsi]\n8f07 pop qword ptr [rdi]", 8),
        ("a4 movsb byte ptr [rdi], byte ptr [rsi]", 1),
        ("48a5 movsq qword ptr [rdi], qword ptr [rsi]", 8),
        ("ad lodsd eax, dword ptr [rsi]\nab stosd dword ptr [rdi], eax", 4),
    ],
)
def test_copied_bytes_keep_their_exact_origin(small: SmallMachine, listing: str, size: int) -> None:
    small.run(listing, rsi=SOURCE, rdi=OURS)
    assert small.origins(OURS, size) == each(0x10, size)
    assert small.labels(OURS + size, 1) == [TRUSTED]
    assert small.findings() == []


@pytest.mark.parametrize("count", [0, 1, 7])
def test_rep_movsb_copies_as_many_bytes_as_rcx_says(small: SmallMachine, count: int) -> None:
    small.run("f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]", rsi=SOURCE, rdi=OURS, rcx=count)
    assert small.origins(OURS, 8) == each(0x10, count) + [set()] * (8 - count)
    assert small.findings() == []


def test_a_part_of_a_register_is_written_alone(small: SmallMachine) -> None:
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        8a4620 mov al, byte ptr [rsi + 0x20]
        8a6630 mov ah, byte ptr [rsi + 0x30]
        488907 mov qword ptr [rdi], rax
        668b4640 mov ax, word ptr [rsi + 0x40]
        48894708 mov qword ptr [rdi + 8], rax
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 8) == [{0x30}, {0x40}, *each(0x12, 6)]
    assert small.origins(OURS + 8, 8) == [{0x50}, {0x51}, *each(0x12, 6)]


def test_writing_32_bits_cleans_the_upper_half(small: SmallMachine) -> None:
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        89c0 mov eax, eax
        488907 mov qword ptr [rdi], rax
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 8) == each(0x10, 4) + [set()] * 4


def test_zero_extension_is_clean_and_sign_extension_is_made_of_the_sign(small: SmallMachine) -> None:
    small.run(
        """
        0fb706 movzx eax, word ptr [rsi]
        488907 mov qword ptr [rdi], rax
        480fbf06 movsx rax, word ptr [rsi]
        48894708 mov qword ptr [rdi + 8], rax
        8b06 mov eax, dword ptr [rsi]
        4898 cdqe
        48894710 mov qword ptr [rdi + 0x10], rax
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 8) == each(0x10, 2) + [set()] * 6
    assert small.origins(OURS + 8, 8) == [{0x10}] + [{0x11}] * 7
    assert small.origins(OURS + 0x10, 8) == each(0x10, 3) + [{0x13}] * 5


def test_exchanges_swap_labels(small: SmallMachine) -> None:
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        8a5e01 mov bl, byte ptr [rsi + 1]
        86d8 xchg al, bl
        8807 mov byte ptr [rdi], al
        861f xchg byte ptr [rdi], bl
        885f01 mov byte ptr [rdi + 1], bl
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 2) == [{0x10}, {0x11}]


def test_xadd_gives_the_old_value_and_stores_the_sum(small: SmallMachine) -> None:
    small.run(
        """
        8b4620 mov eax, dword ptr [rsi + 0x20]
        f00fc106 lock xadd dword ptr [rsi], eax
        8907 mov dword ptr [rdi], eax
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 4) == each(0x10, 4)
    assert small.origins(SOURCE, 4) == [{*range(0x10, 0x14), *range(0x30, 0x34)}] * 4


@pytest.mark.parametrize("target", ["memory", "register"])
@pytest.mark.parametrize(
    ("expected", "stored", "accumulator"),
    [(5, each(0x20, 8), each(0x30, 8)), (6, each(0x10, 8), each(0x10, 8))],
    ids=["equal", "unequal"],
)
def test_a_compare_exchange_keeps_only_what_was_taken(
    small: SmallMachine, target: str, expected: int, stored: list[set[int]], accumulator: list[set[int]]
) -> None:
    small.image(0x10, word(5) + bytes(8) + word(7) + bytes(8) + word(expected))
    exchange = {
        "memory": """
            f0480fb11e lock cmpxchg qword ptr [rsi], rbx
            488b0e mov rcx, qword ptr [rsi]
        """,
        "register": """
            488b0e mov rcx, qword ptr [rsi]
            480fb1d9 cmpxchg rcx, rbx
        """,
    }
    small.run(
        f"""
        488b4620 mov rax, qword ptr [rsi + 0x20]
        488b5e10 mov rbx, qword ptr [rsi + 0x10]
        {exchange[target]}
        48890f mov qword ptr [rdi], rcx
        48894708 mov qword ptr [rdi + 8], rax
        0f94c0 sete al
        884710 mov byte ptr [rdi + 0x10], al
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 8) == stored
    assert small.origins(OURS + 8, 8) == accumulator
    assert small.origins(OURS + 16, 1) == [{*range(0x10, 0x18), *range(0x30, 0x38)}]


@pytest.mark.parametrize(("taken", "origins"), [(1, each(0x20, 8)), (0, each(0x10, 8))])
def test_a_conditional_move_keeps_only_what_was_taken(
    small: SmallMachine, taken: int, origins: list[set[int]]
) -> None:
    small.image(0x10, b"\1" * 8)
    small.image(0x20, b"\2" * 8)
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        488b5e10 mov rbx, qword ptr [rsi + 0x10]
        85c9 test ecx, ecx
        480f45c3 cmovne rax, rbx
        488907 mov qword ptr [rdi], rax
        488b06 mov rax, qword ptr [rsi]
        480f454610 cmovne rax, qword ptr [rsi + 0x10]
        48894708 mov qword ptr [rdi + 8], rax
        """,
        rsi=SOURCE,
        rdi=OURS,
        rcx=taken,
    )
    assert small.origins(OURS, 8) == origins
    assert small.origins(OURS + 8, 8) == origins


def test_a_conditional_move_between_equal_values_may_have_taken_either(small: SmallMachine) -> None:
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        8a5e01 mov bl, byte ptr [rsi + 1]
        0f44c3 cmove eax, ebx
        8807 mov byte ptr [rdi], al
        """,
        rsi=SOURCE,
        rdi=OURS,
        rax=0,
        rbx=0,
    )
    assert small.origins(OURS, 1) == [{0x10, 0x11}]


# --- cleaning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cleaning",
    [
        "31c0 xor eax, eax",
        "4829c0 sub rax, rax",
        "b805000000 mov eax, 5",
        "4889d8 mov rax, rbx",
        "83e000 and eax, 0",
        "0f31 rdtsc",
    ],
)
def test_a_register_that_got_a_clean_value_is_clean(small: SmallMachine, cleaning: str) -> None:
    small.run(
        f"""
        488b06 mov rax, qword ptr [rsi]
        {cleaning}
        488907 mov qword ptr [rdi], rax
        """,
        rsi=SOURCE,
        rdi=OURS,
        rbx=1,
    )
    assert small.clean(OURS, 8)


def test_a_clean_store_cleans_the_bytes_it_overwrites_and_no_others(small: SmallMachine) -> None:
    small.run("66c7060500 mov word ptr [rsi], 5", rsi=SOURCE)
    assert small.origins(SOURCE - 1, 4) == [{0x0F}, set(), set(), {0x12}]


def test_a_return_address_is_clean(small: SmallMachine) -> None:
    target = small.put("90 nop")
    small.run(
        "488b06 mov rax, qword ptr [rsi]\n50 push rax\n58 pop rax\nffd3 call rbx", rsi=SOURCE, rbx=target
    )
    assert small.clean(STACK - 16, 8)


def test_bytes_masked_away_are_clean(small: SmallMachine) -> None:
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        4825fff000ff and rax, 0xffffffffff00f0ff
        488907 mov qword ptr [rdi], rax
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 8) == [{0x10}, {0x11}, set(), *each(0x13, 5)]
