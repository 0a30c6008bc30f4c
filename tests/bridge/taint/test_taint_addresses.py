"""Addresses under taint: what an address contributes, pointers of the snapshot's, and what must not
happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from small_machine import (
    BEYOND,
    DATA,
    OURS,
    OURS_PADDR,
    PAGE,
    PER_CPU,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    STATICS,
    TWIN,
    TWIN_PADDR,
    USER_MEMORY,
    SmallMachine,
    each,
    word,
)

from hybridbridge_vol.bridge.taint.engine import EventKind
from hybridbridge_vol.bridge.taint.labels import POINTER, SEEDED
from hybridbridge_vol.bridge.taint.rules import trampoline
from hybridbridge_vol.machine.exceptions import VECTOR_PAGE_FAULT
from hybridbridge_vol.machine.paging import WRITABLE
from hybridbridge_vol.units import U64

SOURCE = SNAPSHOT + 0x10
RSI = 6


@pytest.fixture
def small() -> Iterator[SmallMachine]:
    with closing(SmallMachine()) as small:
        yield small


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
def test_other_words_in_the_image_are_no_pointers(small: SmallMachine, value: int) -> None:
    small.image(0x10, word(value))
    small.run("488b06 mov rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax", rsi=SOURCE, rdi=OURS)
    assert not any(label & POINTER for label in small.labels(OURS, 8))
    assert small.origins(OURS, 8) == each(0x10, 8)


def test_a_pointer_of_ours_that_we_put_into_the_snapshot_is_ours(small: SmallMachine) -> None:
    small.image(0x10, word(OURS + 0x40))
    asked = []

    def in_the_image(paddr: int, value: int) -> bool:
        asked.append((paddr, value))
        return False

    small.engine.on_foreign = in_the_image
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
def test_what_no_longer_looks_like_an_address_is_no_pointer(small: SmallMachine, arithmetic: str) -> None:
    small.image(0x10, word(SNAPSHOT + 0x40))
    small.run(
        f"488b06 mov rax, qword ptr [rsi]\n{arithmetic}\n488907 mov qword ptr [rdi], rax",
        rsi=SOURCE,
        rdi=OURS,
    )
    assert not any(label & POINTER for label in small.labels(OURS, 8))
    assert set.union(*small.origins(OURS, 8)) >= {0x10}


def test_the_distance_from_a_pointer_added_to_it_leads_where_we_say(small: SmallMachine) -> None:
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
def test_the_distance_from_a_pointer_added_to_another_is_forged(small: SmallMachine, address: str) -> None:
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


def test_a_pointer_survives_a_stay_in_our_memory(small: SmallMachine) -> None:
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
def test_a_part_of_a_pointer_is_a_number(small: SmallMachine, part: str) -> None:
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


def test_constants_of_the_twin_that_lead_into_the_snapshot_are_pointers(small: SmallMachine) -> None:
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


# --- forged pointers --------------------------------------------------------------------------------------

FOLLOWED = "488b06 mov rax, qword ptr [rsi]\n{}\nc60701 mov byte ptr [rdi], 1"


@pytest.mark.parametrize(
    "access",
    [
        "8a4808 mov cl, byte ptr [rax + 8]",
        "8a0c03 mov cl, byte ptr [rbx + rax]",
        "8808 mov byte ptr [rax], cl",
        "ff30 push qword ptr [rax]",
        "8f00 pop qword ptr [rax]",
        "f0ff00 lock inc dword ptr [rax]",
        "48f730 div qword ptr [rax]",
        "f60001 test byte ptr [rax], 1",
    ],
)
def test_a_pointer_of_the_snapshots_that_leads_to_the_trusted_side_ends_the_run(
    small: SmallMachine, access: str
) -> None:
    small.image(0x10, word(OURS + 0x40))
    small.machine.write(OURS + 0x40, word(3))
    stop = small.run(FOLLOWED.format(access), rsi=SOURCE, rdi=OURS, rbx=0, rdx=0)
    assert small.findings() == [(EventKind.FORGED, 3)]
    assert stop.kind != "returned"
    assert small.machine.read(OURS, 1) == b"\0", "the next instruction has run"


def test_a_pointer_of_the_snapshots_may_not_lead_to_user_memory_either(small: SmallMachine) -> None:
    small.image(0x10, word(SNAPSHOT))
    small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        8a0c10 mov cl, byte ptr [rax + rdx]
        """,
        rsi=SOURCE,
        rdx=USER_MEMORY - SNAPSHOT & U64,
    )
    assert small.findings() == [(EventKind.FORGED, 3)]


def test_a_forged_pointer_that_lies_across_the_edge_of_a_page_ends_the_run_too(small: SmallMachine) -> None:
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


def test_a_word_across_the_end_of_the_images_last_page_is_read_no_further(small: SmallMachine) -> None:
    """Behind the image's memory in this process there may be none (see `guarded`)."""
    small.tables.map_page(BEYOND, SNAPSHOT_PADDR, WRITABLE)
    stop = small.run(
        "488b06 mov rax, qword ptr [rsi]\n0f444602 cmove eax, dword ptr [rsi + 2]", rsi=BEYOND - 4
    )
    assert stop.kind == "returned"


@pytest.mark.parametrize("listing", ["488b06 mov rax, qword ptr [rsi]", "488906 mov qword ptr [rsi], rax"])
def test_both_pages_of_an_access_are_looked_at(small: SmallMachine, listing: str) -> None:
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


def test_a_forged_pointer_is_told_with_the_place_that_it_was_read_from(small: SmallMachine) -> None:
    small.image(0x10, word(OURS + 0x40))
    small.run("488b06 mov rax, qword ptr [rsi]\n488b4808 mov rcx, qword ptr [rax + 8]", rsi=SOURCE)
    (event,) = small.engine.events()
    translation = small.machine.translate(OURS + 0x48)
    assert translation is not None and event.paddr == translation.paddr
    assert small.engine.origins(event.label) == [(0x10, 8)]


@pytest.mark.parametrize(
    ("strings", "registers"),
    [
        ("f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]", ("rsi", "rdi")),
        ("ac lodsb al, byte ptr [rsi]", ("rsi",)),
        ("aa stosb byte ptr [rdi], al", ("rdi",)),
        ("f3a6 repe cmpsb byte ptr [rsi], byte ptr [rdi]", ("rsi", "rdi")),
        ("ae scasb al, byte ptr [rdi]", ("rdi",)),
    ],
)
def test_both_addresses_of_a_string_instruction_are_looked_at(
    small: SmallMachine, strings: str, registers: tuple[str, ...]
) -> None:
    small.image(0x10, word(OURS + 0x40))
    for forged, listing in (
        ("rsi", "488b33 mov rsi, qword ptr [rbx]"),
        ("rdi", "488b3b mov rdi, qword ptr [rbx]"),
    ):
        small.run(f"{listing}\n{strings}", rsi=OURS, rdi=OURS, rcx=1, rbx=SOURCE)
        assert small.findings() == ([(EventKind.FORGED, 3)] if forged in registers else [])


@pytest.mark.parametrize(
    "jump", ["ffe0 jmp rax", "ffd0 call rax", "ff26 jmp qword ptr [rsi]", "ff16 call qword ptr [rsi]"]
)
def test_a_jump_home_by_the_snapshots_word_does_not_happen(small: SmallMachine, jump: str) -> None:
    target = small.put("c60701 mov byte ptr [rdi], 1")
    small.image(0x10, word(target))
    small.run(f"488b06 mov rax, qword ptr [rsi]\n{jump}", rsi=SOURCE, rdi=OURS)
    assert small.findings() == [(EventKind.FORGED, 3)]
    assert small.machine.read(OURS, 1) == b"\0"


def test_a_jump_by_a_word_across_the_edge_of_a_page_does_not_happen(small: SmallMachine) -> None:
    small.tables.map_page(BEYOND, SNAPSHOT_PADDR, WRITABLE)
    small.tables.map_page(BEYOND + PAGE, SNAPSHOT_PADDR + 3 * PAGE, WRITABLE)
    target = small.put("c60701 mov byte ptr [rdi], 1")
    small.machine.write(BEYOND + PAGE - 4, word(target))
    small.run("ff26 jmp qword ptr [rsi]", rsi=BEYOND + PAGE - 4, rdi=OURS)
    assert small.findings() == [(EventKind.FORGED, 0)]
    assert small.machine.read(OURS, 1) == b"\0"


def test_a_jump_by_the_snapshots_word_may_lead_to_the_twin(small: SmallMachine) -> None:
    target = small.put("c60701 mov byte ptr [rdi], 1", TWIN)
    small.image(0x10, word(target))
    assert small.run("ff26 jmp qword ptr [rsi]", rsi=SOURCE, rdi=OURS).kind == "returned"
    assert small.findings() == []
    assert small.machine.read(OURS, 1) == b"\1"


# --- unattributed addresses --------------------------------------------------------------------------------------


def test_a_clean_address_into_the_snapshot_is_unattributed_and_told_once(small: SmallMachine) -> None:
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


def test_what_is_computed_from_the_snapshots_bytes_leads_into_it_by_right(small: SmallMachine) -> None:
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
def test_the_name_of_a_per_cpu_variable_leads_where_what_is_added_leads(
    small: SmallMachine, listing: str
) -> None:
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


def test_the_name_of_a_per_cpu_variable_in_memory_or_a_register_is_no_pointer(small: SmallMachine) -> None:
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


# --- code -------------------------------------------------------------------------------------------------


def test_code_that_is_neither_homes_nor_the_twins_is_not_run(small: SmallMachine) -> None:
    small.machine.write(OURS, bytes.fromhex("c60701c3"))  # mov byte ptr [rdi], 1; ret
    stop = small.run("ffe0 jmp rax", rax=OURS, rdi=OURS + 0x40)
    assert stop.kind != "returned"
    assert [(event.kind, event.vaddr) for event in small.engine.events()] == [(EventKind.OUTSIDE, OURS)]
    assert small.machine.read(OURS + 0x40, 1) == b"\0"


def test_code_of_the_twin_is_learned_when_it_is_first_met(small: SmallMachine) -> None:
    home = small.put("90 nop")
    twin = small.put("90 nop\n90 nop", TWIN)
    for _ in range(2):
        small.go(home)
        small.go(twin)
    assert [(item.vaddr - TWIN, item.size) for item in small.engine.learned] == [(0, 1), (1, 1), (2, 1)]
    small.engine.forget(small.engine.learned)
    small.engine.learned.clear()
    small.go(twin)
    assert len(small.engine.learned) == 3


def test_an_error_of_pythons_ends_the_run_and_is_kept(small: SmallMachine) -> None:
    def fail(_paddr: int, _value: int) -> bool:
        raise ValueError

    small.engine.on_foreign = fail
    small.image(0x10, word(OURS))
    stop = small.run("488b06 mov rax, qword ptr [rsi]\n90 nop", rsi=SOURCE)
    assert stop.kind != "returned"
    assert isinstance(small.engine.failure, ValueError)


# --- exceptions -------------------------------------------------------------------------------------------


def test_an_instruction_that_faulted_has_no_effect(small: SmallMachine) -> None:
    stop = small.run(
        """
        488b06 mov rax, qword ptr [rsi]
        488b02 mov rax, qword ptr [rdx]
        """,
        rsi=SOURCE,
        rdx=BEYOND,
    )
    assert (stop.kind, stop.vector) == ("exception", VECTOR_PAGE_FAULT)
    save = small.put("488907 mov qword ptr [rdi], rax")
    small.machine.write_register("RDI", OURS)
    assert small.machine.run(save, save + 3, 5).kind == "returned"
    small.engine.finish()
    assert small.origins(OURS, 8) == each(0x10, 8)


def test_an_instruction_that_faulted_takes_effect_when_it_runs_again(small: SmallMachine) -> None:
    small.on_demand[BEYOND] = SNAPSHOT_PADDR
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        0202 add al, byte ptr [rdx]
        8807 mov byte ptr [rdi], al
        """,
        rsi=SOURCE,
        rdi=OURS,
        rdx=BEYOND,
    )
    assert small.origins(OURS, 1) == [{0, 0x10}]


def test_a_string_instruction_goes_on_where_it_faulted(small: SmallMachine) -> None:
    small.on_demand[BEYOND] = SNAPSHOT_PADDR
    end = BEYOND - SNAPSHOT
    small.run("f3a4 rep movsb byte ptr [rdi], byte ptr [rsi]", rsi=BEYOND - 3, rdi=OURS, rcx=5)
    assert small.origins(OURS, 5) == [*each(end - 3, 3), {0}, {1}]


# --- where a run begins -----------------------------------------------------------------------------------


def test_labels_of_memory_outlast_a_run_and_those_of_registers_do_not(small: SmallMachine) -> None:
    small.run("8a06 mov al, byte ptr [rsi]\n8807 mov byte ptr [rdi], al", rsi=SOURCE, rdi=OURS)
    small.run("884701 mov byte ptr [rdi + 1], al", rdi=OURS)
    assert small.origins(OURS, 2) == [{0x10}, set()]


def test_after_a_reset_our_memory_is_judged_by_what_it_holds(small: SmallMachine) -> None:
    small.machine.write(OURS, word(SNAPSHOT + 0x40) + word(OURS) + word(5))
    small.run(
        """
        8a06 mov al, byte ptr [rsi]
        884720 mov byte ptr [rdi + 0x20], al
        """,
        rsi=SOURCE,
        rdi=OURS,
    )
    small.engine.reset()
    assert small.origins(OURS + 0x20, 1) == [set()]
    small.run(
        """
        488b07 mov rax, qword ptr [rdi]
        8a08 mov cl, byte ptr [rax]
        48894730 mov qword ptr [rdi + 0x30], rax
        488b4708 mov rax, qword ptr [rdi + 8]
        8a08 mov cl, byte ptr [rax]
        48894738 mov qword ptr [rdi + 0x38], rax
        """,
        rdi=OURS,
        rsi=0,
    )
    assert small.findings() == []
    assert all(label & (POINTER | SEEDED) == POINTER | SEEDED for label in small.labels(OURS + 0x30, 8))
    assert not any(label & POINTER for label in small.labels(OURS + 0x38, 8))


def test_after_a_reset_the_snapshots_bytes_are_their_own_origins_again(small: SmallMachine) -> None:
    small.run("48c70605000000 mov qword ptr [rsi], 5", rsi=SOURCE)
    small.engine.reset()
    assert small.origins(SOURCE, 8) == each(0x10, 8)


# --- trampolines --------------------------------------------------------------------------------------------


def at_a_trampoline(
    becomes_ours: bool, lenient: bool = False
) -> tuple[SmallMachine, list[tuple[int, int, int]]]:
    """A machine whose twin has a trampoline at its first byte, of a function whose second argument must be
    ours; what is asked there."""
    small = SmallMachine({0: trampoline(0b10, lenient)})
    asked = []

    def on_trampoline(vaddr: int, register: int, label: int) -> bool:
        asked.append((vaddr, register, label))
        return becomes_ours

    small.engine.on_trampoline = on_trampoline
    target = small.put("488932 mov qword ptr [rdx], rsi")
    small.machine.write(TWIN, b"\xe9" + (target - TWIN - 5).to_bytes(4, "little", signed=True))
    small.image(0x10, word(SNAPSHOT + 0x40))
    return small, asked


@pytest.mark.parametrize("lenient", [False, True])
def test_an_argument_that_must_be_ours_and_is_not_ends_the_run_unless_the_trampoline_looks_itself(
    lenient: bool,
) -> None:
    small, asked = at_a_trampoline(False, lenient)
    with closing(small):
        stop = small.run("488b33 mov rsi, qword ptr [rbx]\nffe0 jmp rax", rax=TWIN, rbx=SOURCE, rdx=OURS)
        assert [(vaddr, register) for vaddr, register, _ in asked] == [(TWIN, RSI)]
        assert small.engine.origins(asked[0][2]) == [(0x10, 8)]
        assert (stop.kind == "returned") == lenient
        assert [event.kind for event in small.engine.events()] == ([] if lenient else [EventKind.FORGED])
        assert small.pointer(OURS) == lenient


def test_an_argument_that_was_made_ours_is_clean() -> None:
    small, asked = at_a_trampoline(True)
    with closing(small):
        assert (
            small.run("488b33 mov rsi, qword ptr [rbx]\nffe0 jmp rax", rax=TWIN, rbx=SOURCE, rdx=OURS).kind
            == "returned"
        )
        assert len(asked) == 1
        assert small.findings() == []
        assert small.clean(OURS, 8)


def test_an_argument_of_ours_crosses_unasked() -> None:
    small, asked = at_a_trampoline(False)
    with closing(small):
        assert small.run("ffe0 jmp rax", rax=TWIN, rsi=OURS, rdx=OURS, rdi=SNAPSHOT).kind == "returned"
        assert asked == []
        assert small.engine.statistics["trampolines"] == 1
        assert small.machine.read(OURS, 8) == word(OURS)
