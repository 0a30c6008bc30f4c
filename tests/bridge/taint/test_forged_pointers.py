"""Pointers of the snapshot's that lead to the trusted side end the run."""

from __future__ import annotations

import pytest
from small_machine import (
    BASE_WORDS,
    BEYOND,
    OURS,
    PAGE,
    SNAPSHOT,
    SNAPSHOT_PADDR,
    SOURCE,
    TWIN,
    USER_MEMORY,
    SmallMachine,
    word,
)

from hybridbridge_vol.bridge.taint.events import EventKind
from hybridbridge_vol.machine.paging import WRITABLE
from hybridbridge_vol.units import U64

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


def test_a_forged_pointer_is_reported_with_its_origin_in_the_image(small: SmallMachine) -> None:
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
def test_both_addresses_of_a_string_instruction_are_checked(
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
def test_a_jump_home_through_the_snapshots_pointer_ends_the_run(small: SmallMachine, jump: str) -> None:
    target = small.put("c60701 mov byte ptr [rdi], 1")
    small.image(0x10, word(target))
    small.run(f"488b06 mov rax, qword ptr [rsi]\n{jump}", rsi=SOURCE, rdi=OURS)
    assert small.findings() == [(EventKind.FORGED, 3)]
    assert small.machine.read(OURS, 1) == b"\0"


def test_a_jump_through_a_pointer_across_a_page_boundary_ends_the_run(small: SmallMachine) -> None:
    small.tables.map_page(BEYOND, SNAPSHOT_PADDR, WRITABLE)
    small.tables.map_page(BEYOND + PAGE, SNAPSHOT_PADDR + 3 * PAGE, WRITABLE)
    target = small.put("c60701 mov byte ptr [rdi], 1")
    small.machine.write(BEYOND + PAGE - 4, word(target))
    small.run("ff26 jmp qword ptr [rsi]", rsi=BEYOND + PAGE - 4, rdi=OURS)
    assert small.findings() == [(EventKind.FORGED, 0)]
    assert small.machine.read(OURS, 1) == b"\0"


def test_a_jump_through_the_snapshots_pointer_may_lead_to_the_twin(small: SmallMachine) -> None:
    target = small.put("c60701 mov byte ptr [rdi], 1", TWIN)
    small.image(0x10, word(target))
    assert small.run("ff26 jmp qword ptr [rsi]", rsi=SOURCE, rdi=OURS).kind == "returned"
    assert small.findings() == []
    assert small.machine.read(OURS, 1) == b"\1"


BASES = SNAPSHOT + BASE_WORDS[0]


def test_memory_of_ours_may_be_found_again_by_its_struct_page(small: SmallMachine) -> None:
    """page_address(virt_to_page(OURS)): the snapshot's bases are subtracted and added, a number of the
    snapshot's selects the byte."""
    small.image(BASE_WORDS[0], word(0xFFFF_8880_0000_0000))
    small.image(BASE_WORDS[1], word(0xFFFF_EA00_0000_0000))
    small.image(0x10, word(0x28))
    small.run(
        """
        4889f8 mov rax, rdi
        482b06 sub rax, qword ptr [rsi]
        48c1e80c shr rax, 0xc
        48c1e006 shl rax, 6
        48034610 add rax, qword ptr [rsi + 0x10]
        50 push rax
        58 pop rax
        482b4610 sub rax, qword ptr [rsi + 0x10]
        48c1f806 sar rax, 6
        48c1e00c shl rax, 0xc
        480306 add rax, qword ptr [rsi]
        480303 add rax, qword ptr [rbx]
        c60001 mov byte ptr [rax], 1
        """,
        rsi=BASES,
        rdi=OURS,
        rbx=SOURCE,
    )
    assert small.findings() == []
    assert small.machine.read(OURS + 0x28, 1) == b"\1"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        pytest.param(
            OURS - 0xFFFF_8880_0000_0000 & U64, "480306 add rax, qword ptr [rsi]", id="a number and the base"
        ),
        pytest.param(
            OURS,
            "482b06 sub rax, qword ptr [rsi]\n480306 add rax, qword ptr [rsi]",
            id="a pointer less the base, and the base",
        ),
    ],
)
def test_a_base_does_not_make_what_the_image_says_lawful(small: SmallMachine, given: int, code: str) -> None:
    small.image(BASE_WORDS[0], word(0xFFFF_8880_0000_0000))
    small.image(0x10, word(given))
    small.run(f"488b03 mov rax, qword ptr [rbx]\n{code}\n8a08 mov cl, byte ptr [rax]", rsi=BASES, rbx=SOURCE)
    assert [kind for kind, _at in small.findings()] == [EventKind.FORGED]
