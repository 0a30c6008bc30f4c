"""The emulated CPU: runs, exceptions, budgets."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unicorn import x86_const as x86

from hybridbridge_vol.machine import paging
from hybridbridge_vol.machine.cpu import EFER_MSR, CpuState
from hybridbridge_vol.machine.devices import TimeStampCounter, cpuid_leaf
from hybridbridge_vol.machine.exceptions import Verdict
from hybridbridge_vol.machine.machine import ExceptionHandler, Machine, UnmappedVirtual, deliver_everything
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory
from hybridbridge_vol.machine.quirks import old_exception_offset
from hybridbridge_vol.machine.watchdog import MAX_MEMORY

CODE, END, STACK, HANDLER, HOLE = 0x10000, 0x10F00, 0x30000, 0x11000, 0x600000


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine in long mode that delivers every exception."""
    machine = small_machine()
    yield machine
    machine.rest()


def small_machine(handler: ExceptionHandler = deliver_everything) -> Machine:
    """A machine in long mode: 4 MiB identity-mapped, an IDT whose page-fault handler skips two bytes."""
    memory = PhysicalMemory()
    memory.place(0, HostMapping.anonymous(8 << 20))
    machine = Machine(memory=memory, handler=handler)
    memory.write(0x1000, struct.pack("<Q", 0x2003))
    memory.write(0x2000, struct.pack("<Q", 0x3003))
    memory.write(0x3000, struct.pack("<QQ", 0x83, 0x200083))
    memory.write(0x4000, struct.pack("<4Q", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF))
    for vector in (6, 14):
        gate = struct.pack("<HHBBHII", HANDLER & 0xFFFF, 0x10, 0, 0x8E, HANDLER >> 16, 0, 0)
        memory.write(0x5000 + 16 * vector, gate)
    # add qword [rsp + 8], 2; add rsp, 8; iretq
    memory.write(HANDLER, bytes.fromhex("4883442408024883c40848cf"))
    machine.uc.reg_write(x86.UC_X86_REG_GDTR, (0, 0x4000, 31, 0))
    machine.uc.reg_write(x86.UC_X86_REG_IDTR, (0, 0x5000, 0xFFF, 0))
    machine.write_register("CR4", 0x20)
    machine.write_register("CR3", 0x1000)
    machine.write_msr(EFER_MSR, 0x100)
    machine.write_register("CR0", 0x80000031)
    machine.write_register("CS", 0x10)
    machine.write_register("SS", 0x18)
    machine.write_register("RSP", STACK)
    return machine


def stop_at_everything(_machine: Machine, _vector: int, _rip: int, _cr2: int) -> Verdict:
    return Verdict.STOP


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


def test_a_fault_whose_cause_is_removed_is_resumed() -> None:
    def bring_in(machine: Machine, _vector: int, _rip: int, cr2: int) -> Verdict:
        assert cr2 == HOLE
        machine.memory.write_u64(0x3000 + 8 * 3, 0x400083)
        return Verdict.RESUME

    machine = small_machine(bring_in)
    machine.memory.write(CODE, bytes.fromhex("8b07c3"))
    machine.memory.write(0x400000, b"\x2a\0\0\0")
    assert machine.call(CODE, (HOLE,), STACK, END, 5).kind == "returned"
    assert machine.read_register("RAX") == 42
    machine.release()


def test_a_fault_can_end_the_run_and_says_where() -> None:
    machine = small_machine(stop_at_everything)
    machine.memory.write(CODE, bytes.fromhex("908b07c3"))
    stop = machine.call(CODE, (HOLE,), STACK, END, 5)
    assert (stop.kind, stop.vector, stop.rip, stop.cr2) == ("exception", 14, CODE + 1, HOLE)
    machine.release()


def test_an_endless_loop_times_out(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("ebfe"))
    assert machine.call(CODE, (), STACK, END, 0.2).kind == "budget"


def test_a_run_that_takes_ever_more_memory_is_ended(machine: Machine) -> None:
    room = MAX_MEMORY * 3 // 2
    machine.place(1 << 30, HostMapping.anonymous(room))
    for number in range(room >> 21):
        machine.memory.write_u64(0x3000 + 8 * (8 + number), (1 << 30) + (number << 21) | 0x83)
    # lea rax, [rdi]; mov [rax], rax; add rax, 0x1000; cmp rax, rsi; jb to the store; jmp to the beginning
    machine.memory.write(CODE, bytes.fromhex("488d074889004805001000004839f072f2ebed"))
    stop = machine.call(CODE, (8 << 21, (8 << 21) + room), STACK, END, 3600)
    assert stop.kind == "memory"
    machine.memory.write(CODE + 0x100, b"\xc3")
    assert machine.call(CODE + 0x100, (), STACK, END, 3600).kind == "returned"


def test_waiting_for_an_interrupt_that_never_comes_is_reported(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("faf4"))  # cli; hlt
    assert machine.call(CODE, (), STACK, END, 5).kind == "halted"


def test_a_saved_state_goes_on_in_another_machine(machine: Machine) -> None:
    machine.memory.write(CODE, bytes.fromhex("48ffc0c3"))  # inc rax; ret
    machine.write_register("RAX", 6)
    other = Machine(memory=machine.memory)
    other.load_state(machine.save_state())
    assert other.call(CODE, (), STACK, END, 5).kind == "returned"
    assert other.read_register("RAX") == 7
    other.rest()


def test_a_state_survives_being_stored(machine: Machine) -> None:
    machine.write_register("R15", (1 << 64) - 1)
    state = machine.save_state()
    assert CpuState.from_record(json.loads(json.dumps(state.record()))) == state
    assert state.root_paddr == 0x1000


@given(st.data())
def test_a_record_that_is_not_a_cpu_state_is_refused(data: st.DataObject) -> None:
    record = {"general": [0] * 18, "msrs": [0] * 9, "selectors": [0] * 4, "control": [0] * 3}
    record |= {name: [0] * 4 for name in ("gdtr", "idtr", "tr")}
    assert CpuState.from_record(record)
    name = data.draw(st.sampled_from(sorted(record)))
    spoiled: dict[str, Any] = dict(record)
    if data.draw(st.booleans()):
        del spoiled[name]
    else:
        spoiled[name] = data.draw(
            st.none()
            | st.just(record[name][1:])
            | st.just([*record[name][1:], "0"])
            | st.just([0, *record[name]])
        )
    with pytest.raises((KeyError, TypeError, ValueError)):
        CpuState.from_record(spoiled)


def test_the_time_stamp_counter_advances_by_its_step() -> None:
    for step, expected in ((0, 7 << 32), (5, (7 << 32) + 5)):
        source = small_machine()
        machine = Machine(memory=source.memory, tsc=TimeStampCounter(7 << 32, step))
        machine.load_state(source.save_state())
        machine.memory.write(
            CODE, bytes.fromhex("0f3148c1e2204809d0c3")
        )  # rdtsc; shl rdx, 32; or rax, rdx; ret
        assert machine.call(CODE, (), STACK, END, 5).kind == "returned"
        assert machine.read_register("RAX") == expected
        machine.release()


def test_python_sees_virtual_memory_as_the_cpu_does(machine: Machine) -> None:
    machine.write(0x12FFE, b"over the edge")
    assert machine.read(0x12FFE, 13) == b"over the edge"
    with pytest.raises(UnmappedVirtual) as caught:
        machine.read(HOLE - 4, 8)
    assert caught.value.vaddr == HOLE - 4


def test_memory_that_ends_inside_of_a_page_is_unmapped_behind_its_end(machine: Machine) -> None:
    machine.memory.write_u64(0x3000 + 8 * 3, 0x40000083)  # HOLE leads to 1 GiB
    machine.place(1 << 30, HostMapping.anonymous(0x1010))
    assert machine.read(HOLE + 0x1000, 16) == bytes(16)
    with pytest.raises(UnmappedVirtual):
        machine.read(HOLE + 0x1008, 16)
    with pytest.raises(UnmappedVirtual):
        machine.write(HOLE + 0x1008, bytes(16))


def test_unicorns_hidden_field_is_found() -> None:
    assert old_exception_offset() > 0


def test_the_cpu_offers_nothing_that_unicorn_lacks() -> None:
    _eax, _ebx, ecx, edx = cpuid_leaf(1)
    assert not edx & 1 << 9  # APIC
    assert not ecx & (1 << 23 | 1 << 26 | 1 << 30)  # popcnt, xsave, rdrand
    assert cpuid_leaf(7) == (0, 0, 0, 0)
    assert cpuid_leaf(7, levels=5)[2] & 1 << 16
    assert paging.TOP_SHIFT[5] == 48
