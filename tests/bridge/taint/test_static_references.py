"""What leads into the snapshot without a pointer of its own: static references, and unattributed accesses."""

from __future__ import annotations

import pytest
from small_machine import (
    BEYOND,
    OURS,
    OURS_PADDR,
    PAGE,
    PER_CPU,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    SOURCE,
    STATICS,
    TWIN,
    SmallMachine,
    word,
)

from hybridbridge_vol.bridge.taint.events import EventKind
from hybridbridge_vol.units import U64


def test_a_clean_address_into_the_snapshot_is_unattributed_and_reported_once(small: SmallMachine) -> None:
    stop = small.run(
        """
        8a06 mov al, byte ptr [rsi]
        ffc9 dec ecx
        75fa jne 0xfffffffffffffffc
        """,
        seed=False,
        rsi=SOURCE,
        rcx=5,
    )
    assert stop.kind == "returned"
    assert small.findings() == [(EventKind.UNATTRIBUTED, 0)]
    assert small.engine.events()[0].paddr == SNAPSHOT_PADDR + 0x10
    assert small.engine.statistics["events"] == 5


def test_an_address_computed_from_the_snapshots_bytes_may_lead_into_it(small: SmallMachine) -> None:
    """As a page frame number does."""
    small.run(
        """
        0fb606 movzx eax, byte ptr [rsi]
        4801d8 add rax, rbx
        8a00 mov al, byte ptr [rax]
        """,
        rsi=SOURCE,
        rbx=BEYOND - PAGE,
    )
    assert small.findings() == []


def test_a_static_reference_of_the_twins_is_not_unattributed(small: SmallMachine) -> None:
    small.run(
        """
        8a05fa1f0000 mov al, byte ptr [rip + 0x1ffa]
        8807 mov byte ptr [rdi], al
        """,
        side=TWIN,
        rdi=OURS,
    )
    assert small.origins(OURS, 1) == [{STATICS}]
    assert small.findings() == []


def test_a_static_table_of_the_twins_is_labelled_by_its_index(small: SmallMachine) -> None:
    small.run(
        """
        0fb606 movzx eax, byte ptr [rsi]
        8a8000200091 mov al, byte ptr [rax - 0x6effe000]
        8807 mov byte ptr [rdi], al
        """,
        side=TWIN,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.origins(OURS, 1) == [{0x10, STATICS}]
    assert small.findings() == []


@pytest.mark.parametrize(
    "listing",
    ["48c7c000200091 mov rax, 0xffffffff91002000", "488d05f91f0000 lea rax, [rip + 0x1ff9]"],
)
def test_a_static_address_of_the_twins_is_a_pointer_of_the_snapshots(
    small: SmallMachine, listing: str
) -> None:
    small.run(f"{listing}\n8a08 mov cl, byte ptr [rax]\n488907 mov qword ptr [rdi], rax", side=TWIN, rdi=OURS)
    assert small.pointer(OURS)
    assert small.findings() == []


@pytest.mark.parametrize(
    "listing",
    ["48c7c000380091 mov rax, 0xffffffff91003800", "488d05f9370000 lea rax, [rip + 0x37f9]"],
)
def test_a_per_cpu_name_leads_to_the_side_whose_offset_is_added(small: SmallMachine, listing: str) -> None:
    """Ours with the distance of our CPU, the snapshot's with the distance of one of its CPUs."""
    distance = OURS - 0xFFFF_FFFF_9100_3800 & U64
    theirs = SNAPSHOT - 0xFFFF_FFFF_9100_3800 & U64
    small.image(0x10, word(theirs))
    small.run(
        f"""
        {listing}
        4801c8 add rax, rcx
        8a00 mov al, byte ptr [rax]
        """,
        side=TWIN,
        rcx=distance,
    )
    assert small.findings() == []
    small.run(
        f"""
        {listing}
        480306 add rax, qword ptr [rsi]
        8a00 mov al, byte ptr [rax]
        """,
        side=TWIN,
        rsi=SOURCE,
    )
    assert small.findings() == []


def test_a_per_cpu_name_in_memory_or_in_a_register_is_not_a_pointer(small: SmallMachine) -> None:
    name = TWIN + PER_CPU.start
    small.image(0x10, word(name))
    small.memory.write(OURS_PADDR, word(name))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        48894708 mov qword ptr [rdi + 8], rax
        488b07 mov rax, qword ptr [rdi]
        48894710 mov qword ptr [rdi + 0x10], rax
        48895718 mov qword ptr [rdi + 0x18], rdx
        """,
        rsi=SOURCE,
        rdi=OURS,
        rdx=name,
    )
    assert [small.pointer(OURS + place) for place in (8, 0x10, 0x18)] == [False, False, False]


def test_a_static_address_of_the_twins_is_made_of_all_its_indices(small: SmallMachine) -> None:
    small.run(
        """
        0fb606 movzx eax, byte ptr [rsi]
        0fb64e08 movzx ecx, byte ptr [rsi + 8]
        488d840800200091 lea rax, [rax + rcx - 0x6effe000]
        488907 mov qword ptr [rdi], rax
        """,
        side=TWIN,
        rsi=SOURCE,
        rdi=OURS,
    )
    assert small.pointer(OURS)
    assert small.origins(OURS, 8) == [{0x10, 0x18}] * 8


def test_the_static_reference_that_loaded_a_word_is_remembered(small: SmallMachine) -> None:
    small.run("488b05f91f0000 mov rax, qword ptr [rip + 0x1ff9]", side=TWIN)
    assert small.engine.loaded_by(SNAPSHOT_PADDR + STATICS) == TWIN
    assert small.engine.loaded_by(SNAPSHOT_PADDR + STATICS + 8) == 0
    assert small.engine.fields == {0: 3}
