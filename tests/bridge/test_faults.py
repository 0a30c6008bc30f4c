"""What is done about a processor exception, by where it happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from assembly import assembled
from small_snapshot import (
    ABSENT,
    DIRECT_MAP,
    GS,
    HOME_VADDR,
    KERNEL_SIZE,
    PER_CPU_OFFSET,
    STATICS,
    TEXT_VADDR,
    VMALLOC,
    SmallSnapshot,
    SmallSpace,
    word,
)

from hybridbridge_vol.bridge.faults import FaultHandler
from hybridbridge_vol.bridge.text.ud1 import UD2
from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.machine.exceptions import (
    VECTOR_BREAKPOINT,
    VECTOR_GENERAL_PROTECTION,
    VECTOR_INVALID_OPCODE,
    VECTOR_PAGE_FAULT,
    Verdict,
)
from hybridbridge_vol.machine.machine import Machine

WARNING, FIX_UP, PLAIN = 0x300, 0x310, 0x320
"""Offsets from `_text` of instructions."""
NOWHERE = 0xFFFF_C900_4000_0000
"""A virtual address at which the snapshot has nothing."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallSpace]:
    snapshot = SmallSnapshot(tmp_path / "image", {STATICS["__per_cpu_offset"]: word(PER_CPU_OFFSET)})
    yield SmallSpace(snapshot)
    snapshot.close()


@pytest.fixture
def handler(small: SmallSpace) -> FaultHandler:
    return FaultHandler(small.space, small.twin, small.snapshot.sides, [WARNING], [FIX_UP])


@pytest.fixture
def machine(small: SmallSpace, handler: FaultHandler) -> Iterator[Machine]:
    """A machine over the space; what Python reads of it is completed on demand."""
    machine = Machine(memory=small.physical, handler=handler)
    machine.write_register("CR3", small.space.builder.root_paddr)
    machine.write_msr(GS_BASE_MSR, GS)
    machine.write_register("RIP", 0x1234)
    yield machine
    machine.release()


def put(small: SmallSpace, code: bytes) -> int:
    """Code at `PLAIN` in the trusted kernel and so, where it is proven, in the twin; its address there."""
    small.booted[PLAIN : PLAIN + len(code)] = code
    small.memo.text.add([(0, 0x1000)])
    return TEXT_VADDR + PLAIN


def rip(machine: Machine) -> int:
    return machine.read_register("RIP")


def test_a_page_of_the_snapshot_is_brought_in(handler: FaultHandler, machine: Machine) -> None:
    assert handler(machine, VECTOR_PAGE_FAULT, HOME_VADDR + PLAIN, VMALLOC) is Verdict.RESUME
    assert machine.translate(VMALLOC) is not None
    assert rip(machine) == 0x1234


def test_python_reads_the_snapshot_without_asking_first(machine: Machine) -> None:
    assert machine.read_u64(DIRECT_MAP + 0x20_0000 + 0x9000) == 0x20_9000


@pytest.mark.parametrize("vaddr", [ABSENT, NOWHERE, 0])
def test_a_fault_that_nothing_covers_ends_the_call(
    handler: FaultHandler, machine: Machine, vaddr: int
) -> None:
    for text in (HOME_VADDR, TEXT_VADDR):
        assert handler(machine, VECTOR_PAGE_FAULT, text + PLAIN, vaddr) is Verdict.STOP
    assert rip(machine) == 0x1234


@pytest.mark.parametrize("vector", [VECTOR_PAGE_FAULT, VECTOR_GENERAL_PROTECTION])
@pytest.mark.parametrize("text", [HOME_VADDR, TEXT_VADDR])
def test_a_fault_with_a_fix_up_is_delivered_as_homes(
    handler: FaultHandler, machine: Machine, vector: int, text: int
) -> None:
    machine.write_register("RIP", text + FIX_UP)
    assert handler(machine, vector, text + FIX_UP, NOWHERE) is Verdict.DELIVER
    assert rip(machine) == HOME_VADDR + FIX_UP


@pytest.mark.parametrize("text", [HOME_VADDR, TEXT_VADDR])
def test_a_warning_is_passed_over_on_either_side(handler: FaultHandler, machine: Machine, text: int) -> None:
    assert handler(machine, VECTOR_INVALID_OPCODE, text + WARNING, 0) is Verdict.RESUME
    assert rip(machine) == text + WARNING + len(UD2)


def test_a_warning_with_a_message_is_passed_over_whole(
    small: SmallSpace, handler: FaultHandler, machine: Machine
) -> None:
    start = put(small, bytes.fromhex("67480fb93a"))  # ud1 rdi, [edx]: capstone knows no operands
    assert handler(machine, VECTOR_INVALID_OPCODE, start, 0) is Verdict.RESUME
    assert rip(machine) == start + 5


@pytest.mark.parametrize("rip_vaddr", [TEXT_VADDR + PLAIN, TEXT_VADDR + KERNEL_SIZE, NOWHERE, 0])
def test_a_bug_ends_the_call(handler: FaultHandler, machine: Machine, rip_vaddr: int) -> None:
    assert handler(machine, VECTOR_INVALID_OPCODE, rip_vaddr, 0) is Verdict.STOP


def test_a_trap_ends_the_call(handler: FaultHandler, machine: Machine) -> None:
    assert handler(machine, VECTOR_BREAKPOINT, TEXT_VADDR + FIX_UP, 0) is Verdict.STOP


# --- per-CPU pointers of the snapshot ---------------------------------------------------------------------

COUNTER = 0x5000
"""A per-CPU pointer of the snapshot: an offset into the area of each CPU."""


def test_a_per_cpu_pointer_of_the_snapshot_leads_into_the_area_of_its_first_cpu(
    small: SmallSpace, handler: FaultHandler, machine: Machine
) -> None:
    start = put(small, assembled("65488b4308 mov rax, qword ptr gs:[rbx + 8]"))
    machine.write_register("RBX", COUNTER)
    assert handler(machine, VECTOR_PAGE_FAULT, start, GS + COUNTER + 8) is Verdict.RESUME
    assert (GS + machine.read_register("RBX")) & (1 << 64) - 1 == PER_CPU_OFFSET + COUNTER


@pytest.mark.parametrize(
    "listing",
    [
        "488b4308 mov rax, qword ptr [rbx + 8]",
        "65488b04cb mov rax, qword ptr gs:[rbx + rcx*8]",
        "65488b052a000000 mov rax, qword ptr gs:[rip + 0x2a]",
    ],
)
def test_other_addresses_are_left_alone(
    small: SmallSpace, handler: FaultHandler, machine: Machine, listing: str
) -> None:
    start = put(small, assembled(listing))
    machine.write_register("RBX", COUNTER)
    assert handler(machine, VECTOR_PAGE_FAULT, start, GS + COUNTER + 8) is Verdict.STOP
    assert machine.read_register("RBX") == COUNTER


def test_a_per_cpu_pointer_that_leads_nowhere_there_either_ends_the_call(
    small: SmallSpace, handler: FaultHandler, machine: Machine
) -> None:
    start = put(small, assembled("65488b4308 mov rax, qword ptr gs:[rbx + 8]"))
    machine.write_register("RBX", 1 << 40)
    assert handler(machine, VECTOR_PAGE_FAULT, start, GS + (1 << 40) + 8) is Verdict.STOP
    assert machine.read_register("RBX") == 1 << 40
