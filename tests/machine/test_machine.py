"""The emulated CPU: runs, exceptions, budgets."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from hybridbridge_vol.machine import paging
from hybridbridge_vol.machine.devices import cpuid_leaf
from hybridbridge_vol.machine.machine import EFER_MSR, Machine, UnmappedVirtual, Verdict
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.quirks import old_exception_offset

CODE, END, STACK, HANDLER, HOLE = 0x10000, 0x10F00, 0x30000, 0x11000, 0x600000


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine in long mode: 4 MiB identity-mapped, an IDT whose page-fault handler skips two bytes."""
    machine = Machine()
    machine.place(0, HostMapping.anonymous(8 << 20))
    memory = machine.memory
    memory.write(0x1000, struct.pack("<Q", 0x2003))
    memory.write(0x2000, struct.pack("<Q", 0x3003))
    memory.write(0x3000, struct.pack("<QQ", 0x83, 0x200083))
    memory.write(0x4000, struct.pack("<4Q", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF))
    for vector in (6, 14):
        gate = struct.pack("<HHBBHII", HANDLER & 0xFFFF, 0x10, 0, 0x8E, HANDLER >> 16, 0, 0)
        memory.write(0x5000 + 16 * vector, gate)
    # add qword [rsp + 8], 2; add rsp, 8; iretq
    memory.write(HANDLER, bytes.fromhex("4883442408024883c40848cf"))
    from unicorn import x86_const as x86

    machine.uc.reg_write(x86.UC_X86_REG_GDTR, (0, 0x4000, 31, 0))
    machine.uc.reg_write(x86.UC_X86_REG_IDTR, (0, 0x5000, 0xFFF, 0))
    machine.write_register("CR4", 0x20)
    machine.write_register("CR3", 0x1000)
    machine.write_msr(EFER_MSR, 0x100)
    machine.write_register("CR0", 0x80000031)
    machine.write_register("CS", 0x10)
    machine.write_register("SS", 0x18)
    machine.write_register("RSP", STACK)
    yield machine
    machine.rest()


def test_a_call_returns_its_answer(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("488d0437c3"))  # lea rax, [rdi + rsi]; ret
    stop = machine.call(CODE, (40, 2), STACK, END, 5)
    assert stop.kind == "returned"
    assert machine.read_register("RAX") == 42


def test_page_faults_are_delivered_again_and_again(machine: Machine) -> None:
    code = bytes.fromhex("8b07") * 3 + b"\xc3"  # mov eax, [rdi], three times; ret
    machine.memory.write(CODE, code)
    stop = machine.call(CODE, (HOLE,), STACK, END, 5)
    assert stop.kind == "returned"
    assert machine.exceptions_delivered == 3


def test_a_fault_whose_cause_is_removed_is_resumed(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("8b07c3"))
    machine.memory.write(0x400000, b"\x2a\0\0\0")

    def bring_in(_vector: int, _rip: int, cr2: int) -> Verdict:
        assert cr2 == HOLE
        machine.memory.write_u64(0x3000 + 8 * 3, 0x400083)
        return Verdict.RESUME

    machine.exception_filter = bring_in
    assert machine.call(CODE, (HOLE,), STACK, END, 5).kind == "returned"
    assert machine.read_register("RAX") == 42


def test_a_fault_can_end_the_run_and_says_where(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("908b07c3"))
    machine.exception_filter = lambda *_arguments: Verdict.STOP
    stop = machine.call(CODE, (HOLE,), STACK, END, 5)
    assert (stop.kind, stop.vector, stop.rip, stop.cr2) == ("exception", 14, CODE + 1, HOLE)


def test_an_endless_loop_is_cut_off(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("ebfe"))
    assert machine.call(CODE, (), STACK, END, 0.2).kind == "budget"


def test_waiting_for_nothing_is_told(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("faf4"))  # cli; hlt
    assert machine.call(CODE, (), STACK, END, 5).kind == "halted"


def test_a_saved_state_goes_on_in_another_machine(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("48ffc0c3"))  # inc rax; ret
    machine.write_register("RAX", 6)
    other = Machine()
    (region,) = [mapping for _paddr, mapping in machine.memory.regions()]
    other.place(0, region)
    other.load_state(machine.save_state())
    assert other.call(CODE, (), STACK, END, 5).kind == "returned"
    assert other.read_register("RAX") == 7
    other.rest()


def test_python_sees_virtual_memory_as_the_cpu_does(machine: Machine) -> None:
    machine.write(0x12FFE, b"over the edge")
    assert machine.read(0x12FFE, 13) == b"over the edge"
    with pytest.raises(UnmappedVirtual):
        machine.exception_filter = lambda *_arguments: Verdict.STOP
        machine.read(HOLE, 1)


def test_unicorns_hidden_field_is_found() -> None:
    assert old_exception_offset() > 0


def test_the_cpu_offers_nothing_that_unicorn_lacks() -> None:
    _eax, _ebx, ecx, edx = cpuid_leaf(1)
    assert not edx & 1 << 9  # APIC
    assert not ecx & (1 << 23 | 1 << 26 | 1 << 30)  # popcnt, xsave, rdrand
    assert cpuid_leaf(7) == (0, 0, 0, 0)
    assert cpuid_leaf(7, levels=5)[2] & 1 << 16
    assert paging.TOP_SHIFT[5] == 48
