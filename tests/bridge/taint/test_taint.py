"""Labels of data under taint: what a byte is made of, through registers, memory and arithmetic.

Every test runs a few instructions on a real machine; what registers hold is looked at by storing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_machine import (
    BEYOND,
    OURS,
    OURS_PADDR,
    PAGE,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    STACK,
    USER_MEMORY,
    SmallMachine,
    each,
    word,
)
from taint_model import Model

from hybridbridge_vol.bridge.taint.labels import SEEDED, TRUSTED, leaf_range, merge_ranges
from hybridbridge_vol.machine.cpu import FS_BASE_MSR
from hybridbridge_vol.machine.paging import WRITABLE

SOURCE = SNAPSHOT + 0x10
"""Where the tests' bytes come from: the byte at 0x10 of the image, and those that follow."""


@pytest.fixture
def small() -> Iterator[SmallMachine]:
    with closing(SmallMachine()) as small:
        yield small


# --- where labels come from -------------------------------------------------------------------------------


def test_each_byte_of_the_snapshot_is_its_own_origin(small: SmallMachine) -> None:
    assert small.origins(SNAPSHOT + 0x123, 3) == [{0x123}, {0x124}, {0x125}]


def test_what_the_trusted_kernel_changes_is_told_from_what_is_constant(small: SmallMachine) -> None:
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


def test_of_a_word_across_the_edge_of_a_page_both_parts_have_their_origin(small: SmallMachine) -> None:
    edge = SNAPSHOT + PAGE
    small.run("488b46fd mov rax, qword ptr [rsi - 3]\n488907 mov qword ptr [rdi], rax", rsi=edge, rdi=OURS)
    assert small.origins(OURS, 8) == each(PAGE - 3, 8)
    small.run(
        "488b46fd mov rax, qword ptr [rsi - 3]\n488907 mov qword ptr [rdi], rax",
        rsi=OURS + 2 * PAGE,
        rdi=OURS,
    )
    assert small.labels(OURS, 8) == [TRUSTED] * 8


def apart(small: SmallMachine, vaddr: int = BEYOND, paddr: int = SNAPSHOT_PADDR) -> int:
    """Map two pages that touch in virtual memory alone, from `paddr` and two pages farther; where the second
    begins."""
    small.tables.map_page(vaddr, paddr, WRITABLE)
    small.tables.map_page(vaddr + PAGE, paddr + 3 * PAGE, WRITABLE)
    small.machine.flush_translations()
    return vaddr + PAGE


READS_AND_WRITES = [
    "488b06 mov rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax",
    "488b4433f9 mov rax, qword ptr [rbx + rsi - 7]\n4889441ff9 mov qword ptr [rdi + rbx - 7], rax",
    "65488b06 mov rax, qword ptr gs:[rsi]\n6548890417 mov qword ptr gs:[rdi + rdx], rax",
    "48a5 movsq qword ptr [rdi], qword ptr [rsi]",
    "488b06 mov rax, qword ptr [rsi]\n4883c708 add rdi, 8\n4887e7 xchg rdi, rsp\n50 push rax\n4887e7 xchg rdi, rsp",
    "0f1006 movups xmm0, xmmword ptr [rsi]\n0f1107 movups xmmword ptr [rdi], xmm0",
]


@pytest.mark.parametrize("listing", READS_AND_WRITES)
def test_the_second_page_is_found_wherever_it_is(small: SmallMachine, listing: str) -> None:
    edge = apart(small)
    small.run(listing, rsi=edge - 3, rdi=OURS, rbx=7)
    assert small.origins(OURS, 8) == each(PAGE - 3, 3) + each(3 * PAGE, 5)
    edge = apart(small, OURS + (1 << 30), OURS_PADDR)
    small.run(listing, rsi=SOURCE, rdi=edge - 3, rbx=7)
    assert small.origins(OURS + PAGE - 3, 3) + small.origins(OURS + 3 * PAGE, 5) == each(0x10, 8)
    assert small.labels(OURS + PAGE, 8) == [TRUSTED] * 8
    assert small.engine.statistics["split"] == 0
    assert small.findings() == []


@pytest.mark.parametrize("value", [SNAPSHOT + 0x1234, 0x1234])
def test_a_word_in_two_pages_is_a_pointer_if_it_looks_like_one(small: SmallMachine, value: int) -> None:
    edge = apart(small)
    small.image(PAGE - 3, word(value)[:3])
    small.image(3 * PAGE, word(value)[3:])
    small.run("488b06 mov rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax", rsi=edge - 3, rdi=OURS)
    assert small.pointer(OURS) == (value >= SNAPSHOT)


def test_a_conditional_move_is_known_by_the_whole_of_a_word_in_two_pages(small: SmallMachine) -> None:
    edge = apart(small)
    small.image(3 * PAGE, word(0x1122334455))
    small.run(
        "488b03 mov rax, qword ptr [rbx]\n4885d2 test rdx, rdx\n480f4506 cmovne rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax",
        rsi=edge - 3,
        rdi=OURS,
        rbx=SOURCE,
        rdx=1,
    )
    assert small.origins(OURS, 8) == each(PAGE - 3, 3) + each(3 * PAGE, 5)


def test_where_the_second_page_cannot_be_told_that_the_rest_is_the_snapshots_is_all_that_is_said(
    small: SmallMachine,
) -> None:
    """Nothing that these kernels run addresses memory by FS."""
    small.machine.write_msr(FS_BASE_MSR, PAGE)
    small.run(
        "64488b06 mov rax, qword ptr fs:[rsi]\n488907 mov qword ptr [rdi], rax", rsi=SNAPSHOT - 3, rdi=OURS
    )
    assert small.origins(OURS, 8) == each(PAGE - 3, 3) + [set()] * 5
    assert all(label & SEEDED for label in small.labels(OURS + 3, 5))
    assert small.engine.statistics["split"] == 1


def test_a_store_across_the_edge_of_a_page_labels_both_parts(small: SmallMachine) -> None:
    edge = OURS + PAGE
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        488947fb mov qword ptr [rdi - 5], rax
        c747fe05000000 mov dword ptr [rdi - 2], 5
        """,
        rsi=SOURCE,
        rdi=edge,
    )
    assert small.origins(edge - 5, 5) == [*each(0x10, 3), set(), set()]
    assert small.labels(edge, 2) == [0, 0]
    assert small.origins(edge + 2, 1) == [{0x17}]
    assert small.labels(edge + 3, 1) == [TRUSTED]


def test_pages_that_touch_in_virtual_memory_alone_are_not_mixed_up(small: SmallMachine) -> None:
    virtual = BEYOND
    small.tables.map_page(virtual, OURS_PADDR, WRITABLE)
    small.tables.map_page(virtual + PAGE, OURS_PADDR + 2 * PAGE, WRITABLE)
    small.run(
        """
        884f02 mov byte ptr [rdi + 2], cl
        488b06 mov rax, qword ptr [rsi]
        488942fc mov qword ptr [rdx - 4], rax
        """,
        seed=False,
        rsi=SOURCE,
        rdi=OURS + PAGE,
        rdx=virtual + PAGE,
        rcx=1,
    )
    assert small.origins(virtual + PAGE - 4, 4) == each(0x10, 4)
    assert small.labels(OURS + PAGE, 4) == [TRUSTED, TRUSTED, 0, TRUSTED]


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
def test_a_comparing_exchange_keeps_only_what_was_taken(
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


# --- unions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "origins"),
    [
        ("6601d8 add ax, bx", [{0x10, 0x11, 0x20, 0x21}] * 2),
        ("6629d8 sub ax, bx", [{0x10, 0x11, 0x20, 0x21}] * 2),
        ("660fafc3 imul ax, bx", [{0x10, 0x11, 0x20, 0x21}] * 2),
        ("6683c001 add ax, 1", [{0x10, 0x11}] * 2),
        ("66c1e003 shl ax, 3", [{0x10, 0x11}] * 2),
        ("66c1c008 rol ax, 8", [{0x10, 0x11}] * 2),
        ("6631d8 xor ax, bx", [{0x10, 0x20}, {0x11, 0x21}]),
        ("6621d8 and ax, bx", [{0x10, 0x20}, {0x11, 0x21}]),
        ("6609d8 or ax, bx", [{0x10, 0x20}, {0x11, 0x21}]),
        ("66f7d0 not ax", [{0x10}, {0x11}]),
        (
            "668907 mov word ptr [rdi], ax\n66f717 not word ptr [rdi]\n668b07 mov ax, word ptr [rdi]",
            [{0x10}, {0x11}],
        ),
    ],
)
def test_arithmetic_joins_all_bytes_and_bitwise_operations_each_with_its_partner(
    small: SmallMachine, operation: str, origins: list[set[int]]
) -> None:
    small.run(
        f"""
        668b06 mov ax, word ptr [rsi]
        668b5e10 mov bx, word ptr [rsi + 0x10]
        {operation}
        668907 mov word ptr [rdi], ax
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 2) == origins


@pytest.mark.parametrize(
    "operation",
    [
        "0fc8 bswap eax",
        "f7e3 mul ebx",
        "8d449803 lea eax, [rax + rbx*4 + 3]",
        "0fbcc0 bsf eax, eax",
        "6bc007 imul eax, eax, 7",
    ],
)
def test_a_result_that_mixes_bytes_is_made_of_all_of_them(small: SmallMachine, operation: str) -> None:
    small.run(
        f"""
        8b06 mov eax, dword ptr [rsi]
        {operation}
        8907 mov dword ptr [rdi], eax
        """,
        rsi=SOURCE,
        rdi=OURS,
        rbx=1,
    )
    assert small.origins(OURS, 4) == [{0x10, 0x11, 0x12, 0x13}] * 4


def test_flags_carry_labels_to_what_is_made_of_them(small: SmallMachine) -> None:
    small.run(
        """
        803e05 cmp byte ptr [rsi], 5
        0f93c0 setae al
        8807 mov byte ptr [rdi], al
        f6460105 test byte ptr [rsi + 1], 5
        0f94c0 sete al
        884701 mov byte ptr [rdi + 1], al
        807e0205 cmp byte ptr [rsi + 2], 5
        18c0 sbb al, al
        884702 mov byte ptr [rdi + 2], al
        31db xor ebx, ebx
        0f95c0 setne al
        884703 mov byte ptr [rdi + 3], al
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 4) == [{0x10}, {0x11}, {0x12}, set()]


@pytest.mark.parametrize(
    ("strings", "origins"),
    [
        ("f3a6 repe cmpsb byte ptr [rsi], byte ptr [rdi]", {0x12, 0x32}),
        ("a6 cmpsb byte ptr [rsi], byte ptr [rdi]", {0x10, 0x30}),
        ("f3ae repe scasb al, byte ptr [rdi]", {0x32}),
    ],
)
def test_comparing_strings_labels_the_flags_by_the_last_bytes_compared(
    small: SmallMachine, strings: str, origins: set[int]
) -> None:
    """Also where the count ran out: what finds that nothing is left compares nothing."""
    small.run(
        f"""
        {strings}
        0f95c0 setne al
        8803 mov byte ptr [rbx], al
        """,
        rsi=SOURCE,
        rdi=SOURCE + 0x20,
        rcx=3,
        rbx=OURS,
    )
    assert small.origins(OURS, 1) == [origins]


def test_a_branch_taken_by_the_snapshots_word_labels_nothing(small: SmallMachine) -> None:
    small.run(
        """
        803e05 cmp byte ptr [rsi], 5
        7503 jne 5
        c60701 mov byte ptr [rdi], 1
        c6470101 mov byte ptr [rdi + 1], 1
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.labels(OURS, 2) == [TRUSTED, 0]


def test_adjacent_ranges_merge_into_one(small: SmallMachine) -> None:
    small.run(
        "488b06 mov rax, qword ptr [rsi]\n48ffc0 inc rax\n488907 mov qword ptr [rdi], rax",
        rsi=SOURCE,
        rdi=OURS,
    )
    (label,) = set(small.labels(OURS, 8))
    assert leaf_range(label) == (0x10, 8)
    assert small.engine.statistics["joins"] == 0


def test_ranges_apart_become_a_union_that_is_made_once(small: SmallMachine) -> None:
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        024610 add al, byte ptr [rsi + 0x10]
        8807 mov byte ptr [rdi], al
        8a4610 mov al, byte ptr [rsi + 0x10]
        0206 add al, byte ptr [rsi]
        884701 mov byte ptr [rdi + 1], al
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    first, second = small.labels(OURS, 2)
    assert first == second
    assert leaf_range(first) is None
    assert small.engine.origins(first) == [(0x10, 1), (0x20, 1)]


def test_a_sum_over_many_ranges_names_them_all(small: SmallMachine) -> None:
    small.run(
        """
        0206 add al, byte ptr [rsi]
        4883c620 add rsi, 0x20
        ffc9 dec ecx
        75f6 jne 0xfffffffffffffff8
        8807 mov byte ptr [rdi], al
        """,
        rsi=SNAPSHOT,
        rdi=OURS,
        rcx=100,
    )
    assert small.origins(OURS, 1) == [set(range(0, 100 * 0x20, 0x20))]


@given(st.sets(st.tuples(st.integers(0, 60), st.integers(1, 8))))
def test_ranges_are_told_ascending_and_apart(ranges: set[tuple[int, int]]) -> None:
    merged = merge_ranges(ranges)
    assert {place for start, size in merged for place in range(start, start + size)} == {
        place for start, size in ranges for place in range(start, start + size)
    }
    assert all(start + size < after for (start, size), (after, _) in pairwise(merged))


def test_what_is_known_to_be_the_snapshots_but_not_from_where_has_no_origin(small: SmallMachine) -> None:
    small.run("488937 mov qword ptr [rdi], rsi", rsi=SOURCE, rdi=OURS)
    assert small.origins(OURS, 8) == [set()] * 8
    assert all(label & SEEDED for label in small.labels(OURS, 8))


# --- an oracle --------------------------------------------------------------------------------------------

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
