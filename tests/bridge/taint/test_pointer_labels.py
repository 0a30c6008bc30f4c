"""Addresses under taint: what they add to the data, and which values are pointers of the snapshot's."""

from __future__ import annotations

from contextlib import closing

import pytest
from small_machine import (
    BEYOND,
    DATA,
    OURS,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    SOURCE,
    TWIN,
    TWIN_PADDR,
    SmallMachine,
    each,
    word,
)

from hybridbridge_vol.bridge.taint.events import EventKind
from hybridbridge_vol.bridge.taint.labels import POINTER

# --- where pointers lead ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hole", [0xFFFF_8000_0000_0000, 0xFFFF_F000_0000_0000])
def test_a_pointer_of_the_snapshots_is_known_on_either_side_of_the_trusted_kernels_hole(hole: int) -> None:
    with closing(SmallMachine(hole=range(hole, hole + (8 << 40)))) as small:
        small.image(0x10, word(SNAPSHOT + 0x40))
        small.run(
            """
            488b06 mov rax, qword ptr [rsi]
            488b08 mov rcx, qword ptr [rax]
            48894620 mov qword ptr [rsi + 0x20], rax
            """,
            rsi=SOURCE,
        )
        assert small.findings() == []
        assert small.pointer(SOURCE + 0x20)


# --- what an address contributes --------------------------------------------------------------------------


def test_an_index_from_the_snapshot_labels_what_a_table_of_ours_gives(small: SmallMachine) -> None:
    small.run(
        """
        0fb606 movzx eax, byte ptr [rsi]
        8a0c07 mov cl, byte ptr [rdi + rax]
        888f00010000 mov byte ptr [rdi + 0x100], cl
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS + 0x100, 1) == [{0x10}]
    assert small.findings() == []


def test_an_index_from_the_snapshot_adds_to_what_the_snapshots_table_gives(small: SmallMachine) -> None:
    small.run(
        """
        0fb606 movzx eax, byte ptr [rsi]
        8a4c0620 mov cl, byte ptr [rsi + rax + 0x20]
        880f mov byte ptr [rdi], cl
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 1) == [{0x10, 0x30}]


def test_a_pointer_of_the_snapshots_does_not_label_what_is_loaded_through_it(small: SmallMachine) -> None:
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        8a4802 mov cl, byte ptr [rax + 2]
        880f mov byte ptr [rdi], cl
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 1) == [{0x42}]


def test_an_index_labels_nothing_that_is_stored_by_it(small: SmallMachine) -> None:
    small.run(
        """
        0fb606 movzx eax, byte ptr [rsi]
        c6040701 mov byte ptr [rdi + rax], 1
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.clean(OURS, 1)


# --- pointers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [SNAPSHOT + 0x40, BEYOND, TWIN + DATA, OURS],
    ids=["of its memory", "of nothing", "of its kernel", "of ours"],
)
def test_a_kernel_address_in_the_image_is_a_pointer_of_the_snapshots(small: SmallMachine, value: int) -> None:
    small.image(0x10, word(value))
    small.run("488b06 mov rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax", rsi=SOURCE, rdi=OURS)
    assert small.pointer(OURS)
    assert small.origins(OURS, 8) == each(0x10, 8)


@pytest.mark.parametrize(
    "value", [0, 1 << 63, 0x7FFF_FFFF_F000, (1 << 64) - 22], ids=["null", "no address", "user", "error"]
)
def test_other_words_in_the_image_are_not_pointers(small: SmallMachine, value: int) -> None:
    small.image(0x10, word(value))
    small.run("488b06 mov rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax", rsi=SOURCE, rdi=OURS)
    assert not any(label & POINTER for label in small.labels(OURS, 8))
    assert small.origins(OURS, 8) == each(0x10, 8)


def test_a_trusted_pointer_stored_into_the_snapshot_by_the_trusted_kernel_is_clean(
    small: SmallMachine,
) -> None:
    small.image(0x10, word(OURS + 0x40))
    asked = []

    def in_the_image(paddr: int, value: int) -> bool:
        asked.append((paddr, value))
        return False

    small.answers.image_holds = in_the_image
    small.run(
        "488b06 mov rax, qword ptr [rsi]\n488b08 mov rcx, qword ptr [rax]\n488907 mov qword ptr [rdi], rax",
        rsi=SOURCE,
        rdi=OURS,
    )
    assert asked == [(SNAPSHOT_PADDR + 0x10, OURS + 0x40)]
    assert small.findings() == []
    assert small.clean(OURS, 8)


@pytest.mark.parametrize(
    "arithmetic",
    [
        "4883c008 add rax, 8",
        "488d444808 lea rax, [rax + rcx*2 + 8]",
        "4883e0f0 and rax, 0xfffffffffffffff0",
        "4809c8 or rax, rcx",
        "480fc1c8 xadd rax, rcx",
    ],
)
def test_a_pointer_stays_one_through_arithmetic(small: SmallMachine, arithmetic: str) -> None:
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        f"488b06 mov rax, qword ptr [rsi]\n{arithmetic}\n488907 mov qword ptr [rdi], rax",
        rsi=SOURCE,
        rdi=OURS,
        rcx=4,
    )
    assert small.pointer(OURS)


@pytest.mark.parametrize(
    "arithmetic",
    [
        "4829f0 sub rax, rsi",
        "48c1e80c shr rax, 0xc",
        "25ff000000 and eax, 0xff",
        "48f7d8 neg rax",
        "486bc003 imul rax, rax, 3",
    ],
)
def test_a_value_that_no_longer_looks_like_an_address_is_not_a_pointer(
    small: SmallMachine, arithmetic: str
) -> None:
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        f"488b06 mov rax, qword ptr [rsi]\n{arithmetic}\n488907 mov qword ptr [rdi], rax",
        rsi=SOURCE,
        rdi=OURS,
    )
    assert not any(label & POINTER for label in small.labels(OURS, 8))
    assert set.union(*small.origins(OURS, 8)) >= {0x10}


def test_a_pointer_plus_a_distance_from_it_is_not_the_snapshots(small: SmallMachine) -> None:
    """Two arrays walked with one index: the second by its distance from the first."""
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        488d4810 lea rcx, [rax + 0x10]
        4829c7 sub rdi, rax
        488b11 mov rdx, qword ptr [rcx]
        48895439f0 mov qword ptr [rcx + rdi - 0x10], rdx
        4883c108 add rcx, 8
        4801cf add rdi, rcx
        488917 mov qword ptr [rdi], rdx
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.findings() == []
    assert small.origins(OURS, 8) == each(0x50, 8)
    assert small.origins(OURS + 0x18, 8) == each(0x50, 8)


@pytest.mark.parametrize(
    "address",
    [
        # another pointer of the snapshot's: it decides where this leads
        "8a0417 mov al, byte ptr [rdi + rdx]",
        "8a0438 mov al, byte ptr [rax + rdi]",  # moved by a number of the snapshot's
    ],
)
def test_a_distance_from_a_pointer_added_to_another_pointer_is_forged(
    small: SmallMachine, address: str
) -> None:
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.image(0x18, word(SNAPSHOT + 0x40))
    small.run(
        f"""
        488b06 mov rax, qword ptr [rsi]
        488b5608 mov rdx, qword ptr [rsi + 8]
        4829c7 sub rdi, rax
        48034620 add rax, qword ptr [rsi + 0x20]
        {address}
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.findings() == [(EventKind.FORGED, 14)]


def test_a_pointer_keeps_its_label_in_trusted_memory(small: SmallMachine) -> None:
    small.image(0x10, word(OURS))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        50 push rax
        31c0 xor eax, eax
        5b pop rbx
        8a0b mov cl, byte ptr [rbx]
        """,
        rsi=SOURCE,
    )
    assert small.findings() == [(EventKind.FORGED, 7)]


@pytest.mark.parametrize(
    "part",
    [
        "0fb6c8 movzx ecx, al",
        "0fb7c8 movzx ecx, ax\nc1e908 shr ecx, 8",
        "480fbfc8 movsx rcx, ax",
        "50 push rax\n59 pop rcx\n0fb6c9 movzx ecx, cl",
        "50 push rax\n0fb60c24 movzx ecx, byte ptr [rsp]\n58 pop rax",
        "88c1 mov cl, al",
    ],
)
def test_a_part_of_a_pointer_is_not_a_pointer(small: SmallMachine, part: str) -> None:
    """A hash of an address, say, used as an index into a table of ours."""
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        f"""
        488b06 mov rax, qword ptr [rsi]
        {part}
        8a140f mov dl, byte ptr [rdi + rcx]
        488d1c0f lea rbx, [rdi + rcx]
        8a13 mov dl, byte ptr [rbx]
        889700010000 mov byte ptr [rdi + 0x100], dl
        """,
        rsi=SOURCE,
        rdi=OURS,
        rcx=0,
    )
    assert small.findings() == []
    assert 0x10 in small.origins(OURS + 0x100, 1)[0]


def test_a_pointer_copied_in_parts_is_one_again(small: SmallMachine) -> None:
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        48894708 mov qword ptr [rdi + 8], rax
        488d7708 lea rsi, [rdi + 8]
        f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]
        488b47f8 mov rax, qword ptr [rdi - 8]
        8a08 mov cl, byte ptr [rax]
        880f mov byte ptr [rdi], cl
        """,
        rsi=SOURCE,
        rdi=OURS,
        rcx=8,
    )
    assert small.pointer(OURS)
    assert small.origins(OURS + 8, 1) == [{0x40}]


def test_constants_of_the_twin_that_point_into_the_snapshot_are_pointers(small: SmallMachine) -> None:
    small.memory.write(TWIN_PADDR + 0x1000, word(TWIN + DATA) + word(5))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        488907 mov qword ptr [rdi], rax
        488b4608 mov rax, qword ptr [rsi + 8]
        48894708 mov qword ptr [rdi + 8], rax
        """,
        rsi=TWIN + 0x1000,
        rdi=OURS,
    )
    assert small.labels(OURS, 8) == [POINTER] * 8
    assert small.clean(OURS + 8, 8)
