"""Labels of results that are made of several bytes of the snapshot."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_machine import OURS, SNAPSHOT, SOURCE, SmallMachine

from hybridbridge_vol.bridge.taint.labels import SEEDED, TRUSTED, leaf_range, merge_ranges


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
def test_arithmetic_joins_all_bytes_and_bitwise_operations_join_byte_by_byte(
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


def test_a_branch_on_the_snapshots_data_labels_nothing(small: SmallMachine) -> None:
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


def test_separate_ranges_become_one_union_that_is_shared(small: SmallMachine) -> None:
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
def test_merged_ranges_are_ascending_and_disjoint(ranges: set[tuple[int, int]]) -> None:
    merged = merge_ranges(ranges)
    assert {place for start, size in merged for place in range(start, start + size)} == {
        place for start, size in ranges for place in range(start, start + size)
    }
    assert all(start + size < after for (start, size), (after, _) in pairwise(merged))


def test_a_seeded_register_has_no_origin(small: SmallMachine) -> None:
    small.run("488937 mov qword ptr [rdi], rsi", rsi=SOURCE, rdi=OURS)
    assert small.origins(OURS, 8) == [set()] * 8
    assert all(label & SEEDED for label in small.labels(OURS, 8))
