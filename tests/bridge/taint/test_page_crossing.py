"""Accesses that cross the end of a page, whose second page may lie anywhere in physical memory."""

from __future__ import annotations

import pytest
from small_machine import (
    BEYOND,
    OURS,
    OURS_PADDR,
    PAGE,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    SOURCE,
    SmallMachine,
    each,
    word,
)

from hybridbridge_vol.bridge.taint.events import EventKind
from hybridbridge_vol.bridge.taint.labels import SEEDED, TRUSTED
from hybridbridge_vol.machine.cpu import FS_BASE_MSR
from hybridbridge_vol.machine.paging import WRITABLE


def test_both_parts_of_a_word_across_a_page_boundary_keep_their_origin(small: SmallMachine) -> None:
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
    """
        488b06 mov rax, qword ptr [rsi]
        4883c708 add rdi, 8
        4887e7 xchg rdi, rsp
        50 push rax
        4887e7 xchg rdi, rsp
    """,
    "0f1006 movups xmm0, xmmword ptr [rsi]\n0f1107 movups xmmword ptr [rdi], xmm0",
]


@pytest.mark.parametrize("listing", READS_AND_WRITES)
def test_the_second_page_is_found_wherever_it_lies_in_physical_memory(
    small: SmallMachine, listing: str
) -> None:
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


def test_a_conditional_move_is_recognized_by_the_whole_word_across_two_pages(small: SmallMachine) -> None:
    edge = apart(small)
    small.image(3 * PAGE, word(0x1122334455))
    small.run(
        """
        488b03 mov rax, qword ptr [rbx]
        4885d2 test rdx, rdx
        480f4506 cmovne rax, qword ptr [rsi]
        488907 mov qword ptr [rdi], rax
        """,
        rsi=edge - 3,
        rdi=OURS,
        rbx=SOURCE,
        rdx=1,
    )
    assert small.origins(OURS, 8) == each(PAGE - 3, 3) + each(3 * PAGE, 5)


def test_where_the_second_page_is_unknown_the_rest_is_labelled_without_an_origin(
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


def test_a_store_across_a_page_boundary_labels_both_parts(small: SmallMachine) -> None:
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


def test_pages_adjacent_only_in_virtual_memory_are_not_confused(small: SmallMachine) -> None:
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


def test_a_forged_pointer_stored_across_a_page_boundary_ends_the_run(small: SmallMachine) -> None:
    """Wherever the second page is: the snapshot's page tables are its own."""
    for second in (PAGE, 3 * PAGE):
        forged = word(OURS + 0x40)
        small.image(PAGE - 4, forged[:4])
        small.image(second, forged[4:])
        small.tables.map_page(BEYOND, SNAPSHOT_PADDR, WRITABLE)
        small.tables.map_page(BEYOND + PAGE, SNAPSHOT_PADDR + second, WRITABLE)
        small.machine.flush_translations()
        small.run("488b06 mov rax, qword ptr [rsi]\n488b08 mov rcx, qword ptr [rax]", rsi=BEYOND + PAGE - 4)
        assert small.findings() == [(EventKind.FORGED, 3)]
        small.image(second, bytes(4))


def test_a_word_across_the_end_of_the_image_is_not_read_beyond_it(small: SmallMachine) -> None:
    """Behind the image's memory in this process there may be none (see `guarded`)."""
    small.tables.map_page(BEYOND, SNAPSHOT_PADDR, WRITABLE)
    stop = small.run(
        "488b06 mov rax, qword ptr [rsi]\n0f444602 cmove eax, dword ptr [rsi + 2]", rsi=BEYOND - 4
    )
    assert stop.kind == "returned"


@pytest.mark.parametrize("listing", ["488b06 mov rax, qword ptr [rsi]", "488906 mov qword ptr [rsi], rax"])
def test_both_pages_of_an_access_are_checked(small: SmallMachine, listing: str) -> None:
    for first, second, found in (
        (SNAPSHOT_PADDR, OURS_PADDR, EventKind.FORGED),
        (OURS_PADDR, SNAPSHOT_PADDR, EventKind.FORGED),
        (OURS_PADDR, OURS_PADDR + 2 * PAGE, EventKind.FORGED),
        (SNAPSHOT_PADDR, SNAPSHOT_PADDR + 3 * PAGE, None),
    ):
        small.tables.map_page(BEYOND, first, WRITABLE)
        small.tables.map_page(BEYOND + PAGE, second, WRITABLE)
        small.machine.flush_translations()
        small.run(listing, rsi=BEYOND + PAGE - 3)
        assert [kind for kind, _offset in small.findings()] == ([found] if found else [])
    small.tables.map_page(BEYOND, OURS_PADDR, WRITABLE)
    small.machine.flush_translations()
    small.run(listing, seed=False, rsi=BEYOND + PAGE - 3)
    assert small.findings() == [(EventKind.UNATTRIBUTED, 0)]
