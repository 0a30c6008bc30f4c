"""The parts of an emulated program that need no image: the policy, the loader, its memory, its processor."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import struct

import pytest
from filter_verdicts import ALLOW, ERROR, NOTIFY, verdict
from unicorn import Uc
from unicorn.unicorn_const import UC_ARCH_X86, UC_MODE_64

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.native import filter as seccomp_filter
from hybridbridge_vol.native.abi import FIRST_WINDOW
from hybridbridge_vol.native.emulated.address_space import (
    MAX_MEMORY,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    TOP,
    AddressSpace,
)
from hybridbridge_vol.native.emulated.cpu import ProgramCpu
from hybridbridge_vol.native.emulated.elf import parse_executable
from hybridbridge_vol.native.emulated.loader import Image, initial_stack
from hybridbridge_vol.native.emulated.policy import Policy, Verdict
from hybridbridge_vol.units import PAGE_SIZE

PLACE = 0x7000_0000_0000
ARGUMENTS = (
    0,
    1,
    2,
    3,
    4,
    17,
    34,
    FIRST_WINDOW,
    FIRST_WINDOW + 5,
    0x5401,
    0x5412,
    1030,
    0x1002,
    (1 << 64) - 1,
)
VERDICTS = {Verdict.LOCAL: ALLOW, Verdict.ASKED: NOTIFY, Verdict.FAILS: ERROR}


# --- the policy -----------------------------------------------------------------------------------------


def test_the_policy_is_the_filters() -> None:
    """For each system call, with arguments that the filter looks at: what the kernel would decide."""
    policy, chosen = Policy(seccomp_filter.program()), random.Random(1)
    for number in (*range(470), 0x4000_0002, 0xFFFF_FFFF):
        for arguments in ((0,) * 6, *(tuple(chosen.choices(ARGUMENTS, k=6)) for _ in range(12))):
            decision = policy.decide(number, 0x1000, arguments)
            assert VERDICTS[decision.verdict] | decision.error == verdict(number, *arguments), (
                number,
                arguments,
            )


def test_what_is_written_to_a_terminal_is_asked() -> None:
    guarded = Policy(seccomp_filter.program(guarded=True))
    assert guarded.decide(1, 0, (1, 0, 0, 0, 0, 0)).verdict is Verdict.ASKED
    assert Policy(seccomp_filter.program()).decide(1, 0, (1, 0, 0, 0, 0, 0)).verdict is Verdict.LOCAL


# --- memory ---------------------------------------------------------------------------------------------


def space() -> AddressSpace:
    return AddressSpace(Uc(UC_ARCH_X86, UC_MODE_64))


def test_neighbours_of_one_protection_are_one_area_and_are_cut_again() -> None:
    memory = space()
    memory.map(PLACE, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE)
    memory.map(PLACE + 2 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE)
    assert [tuple(area) for area in memory] == [(PLACE, PLACE + 4 * PAGE_SIZE, PROT_READ | PROT_WRITE)]
    memory.write(PLACE + PAGE_SIZE - 2, b"over")
    memory.protect(PLACE + PAGE_SIZE, PAGE_SIZE, PROT_READ)
    memory.unmap(PLACE + 2 * PAGE_SIZE, PAGE_SIZE)
    assert [(area.start - PLACE, area.end - PLACE, area.protection) for area in memory] == [
        (0, PAGE_SIZE, PROT_READ | PROT_WRITE),
        (PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ),
        (3 * PAGE_SIZE, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE),
    ]
    assert memory.read(PLACE + PAGE_SIZE - 2, 2 * PAGE_SIZE)[:4] == b"over"
    assert len(memory.read(PLACE, 9 * PAGE_SIZE)) == 2 * PAGE_SIZE
    for refused in (lambda: memory.write(PLACE + PAGE_SIZE - 1, b"ab"), lambda: memory.read(PLACE - 1, 1)):
        with pytest.raises(OSError) as error:
            refused()
        assert error.value.errno == errno.EFAULT
    memory.protect(PLACE + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE)
    assert len(list(memory)) == 2


def test_areas_are_what_a_model_of_pages_says() -> None:
    """Random changes, against a dictionary of pages."""
    memory, chosen, model = space(), random.Random(2), dict[int, int]()
    for _ in range(400):
        first, count, protection = chosen.randrange(40), chosen.randrange(1, 8), chosen.choice((0, 1, 3, 5))
        pages, at = range(first, first + count), PLACE + first * PAGE_SIZE
        what = chosen.choice(("map", "unmap", "protect"))
        if what == "map":
            memory.map(at, count * PAGE_SIZE, protection)
            model |= dict.fromkeys(pages, protection)
        elif what == "unmap":
            memory.unmap(at, count * PAGE_SIZE)
            for page in pages:
                model.pop(page, None)
        elif all(page in model for page in pages):
            memory.protect(at, count * PAGE_SIZE, protection)
            model |= dict.fromkeys(pages, protection)
        else:
            with pytest.raises(OSError):
                memory.protect(at, count * PAGE_SIZE, protection)
        seen = {
            (vaddr - PLACE) // PAGE_SIZE: area.protection
            for area in memory
            for vaddr in range(area.start, area.end, PAGE_SIZE)
        }
        assert seen == model
        assert all(one.end <= two.start for one, two in itertools.pairwise(memory))


def test_memory_has_a_limit() -> None:
    memory = space()
    memory.map(PLACE, MAX_MEMORY, PROT_READ)
    with pytest.raises(OSError) as error:
        memory.map(PLACE - PAGE_SIZE, PAGE_SIZE, PROT_READ)
    assert error.value.errno == errno.ENOMEM
    memory.unmap(PLACE, PAGE_SIZE)
    memory.map(PLACE - PAGE_SIZE, PAGE_SIZE, PROT_READ)


# --- programs -------------------------------------------------------------------------------------------


def elf(machine: int = 62, kind: int = 2, size: int = PAGE_SIZE, class_: int = 2) -> bytes:
    """A program of one segment, which is its file."""
    header = struct.pack(
        "<4s4B8xHHIQQQIHHHHHH", b"\x7fELF", class_, 1, 1, 0, kind, machine, 1, 0x40_0080, 64, 0, 0, 64, 56, 1,
        0, 0, 0,
    )  # fmt: skip
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x40_0000, 0x40_0000, 128, size, PAGE_SIZE) + bytes(8)


def test_a_program_is_read_from_its_file() -> None:
    found = parse_executable("here", elf())
    assert (found.entry, found.is_movable, found.headers_vaddr, found.header_count) == (
        0x40_0080,
        False,
        0x40_0040,
        1,
    )
    assert [part.protection for part in found.segments] == [PROT_READ | PROT_EXEC]
    assert found.span == range(0x40_0000, 0x40_1000) and not found.interpreter


@pytest.mark.parametrize(
    "data",
    [
        b"", b"#!/bin/sh\n", elf()[:100], elf(class_=1), elf(machine=183), elf(machine=3), elf(kind=1),
        elf(size=1 << 45), elf(size=1 << 60), elf(size=64),
    ],
)  # fmt: skip
def test_what_is_no_program_of_this_kind_is_said_in_one_line(data: bytes) -> None:
    with pytest.raises(OptionError, match="^here: [^\n]*$"):
        parse_executable("here", data)


def test_no_damage_to_a_program_is_more_than_an_error() -> None:
    """Each byte of its headers changed."""
    whole = elf()
    for at in range(len(whole)):
        for value in (0, 1, 0x7F, 0xFF):
            try:
                found = parse_executable("here", whole[:at] + bytes([value]) + whole[at + 1 :])
            except OptionError:
                continue
            assert found.span.stop <= TOP


def test_the_stack_begins_as_a_program_expects_it() -> None:
    program = parse_executable("here", elf())
    image = Image(program, None, "/tools/here", ["here", "-l", "ä"], {"A": "b", "PATH": "/bin"})
    pointer, content, full = initial_stack(image, {6: PAGE_SIZE, 9: 0x40_0080}, bytes(range(16)))
    assert pointer % 16 == 0 and pointer + len(content) == TOP

    def text(vaddr: int) -> bytes:
        return content[vaddr - pointer :].partition(b"\0")[0]

    words = struct.unpack_from(f"<{len(content) // 8}Q", content)
    assert words[0] == 3 and words[4] == 0 and words[7] == 0
    assert [text(vaddr) for vaddr in words[1:4]] == [b"here", b"-l", os.fsencode("ä")]
    assert [text(vaddr) for vaddr in words[5:7]] == [b"A=b", b"PATH=/bin"]
    assert content[64 : 64 + len(full)] == full
    vector = dict(struct.iter_unpack("<QQ", full))
    assert vector[6] == PAGE_SIZE and vector[9] == 0x40_0080 and text(vector[31]) == b"/tools/here"
    assert content[vector[25] - pointer :][:16] == bytes(range(16)) and text(vector[15]) == b"x86_64"


# --- the processor --------------------------------------------------------------------------------------


def ran(code: str, protection: int = PROT_READ | PROT_EXEC) -> tuple[int, ProgramCpu]:
    """How a few instructions end: 0 at a system call, or a signal."""
    cpu = ProgramCpu()
    memory = AddressSpace(cpu.uc)
    memory.map(PLACE, PAGE_SIZE, protection)
    memory.fill(PLACE, bytes.fromhex(code))
    cpu.start(PLACE, PLACE)
    return cpu.run(), cpu


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("0f0b", signal.SIGILL),  # ud2
        ("31c9f7f1", signal.SIGFPE),  # xor ecx, ecx; div ecx
        ("cc", signal.SIGTRAP),  # int3
        ("f4", signal.SIGSEGV),  # hlt
        ("a1" + "00" * 8, signal.SIGSEGV),  # mov eax, [0]
        ("c60501000000ff", signal.SIGSEGV),  # mov byte [rip + 1], 0xff
        ("31c0ffe0", signal.SIGSEGV),  # xor eax, eax; jmp rax
    ],
)
def test_a_fault_is_the_signal_that_a_kernel_would_send(code: str, number: int) -> None:
    assert ran(code)[0] == number


def test_data_is_not_executed() -> None:
    assert ran("0f05", PROT_READ | PROT_WRITE)[0] == signal.SIGSEGV


def test_a_system_call_stops_behind_it_and_a_32_bit_one_fails() -> None:
    ended, cpu = ran("cd80 bf05000000 0f05")  # int 0x80; mov edi, 5; syscall
    assert ended == 0 and cpu.read_register("RIP") == PLACE + 9
    assert cpu.read_register("RAX") == (1 << 64) - errno.ENOSYS and cpu.arguments[0] == 5


def test_the_processor_offers_what_the_emulator_has() -> None:
    """x86-64-v2, and neither XSAVE nor AVX, which Unicorn lacks."""
    _ended, cpu = ran("b801000000 0fa2 0f05")  # mov eax, 1; cpuid; syscall
    features = cpu.read_register("RCX")
    assert all(features >> bit & 1 for bit in (0, 9, 13, 19, 20, 23))
    assert not any(features >> bit & 1 for bit in (26, 27, 28))
    _ended, cpu = ran("31c9 0f01d0 0f05")  # xor ecx, ecx; xgetbv; syscall
    assert cpu.read_register("RAX") == 0b11  # the states of x87 and SSE


@pytest.mark.parametrize(
    ("before", "wrong", "name"),
    [
        ("", "c5f1efc2", "vpxor"),  # vpxor xmm0, xmm1, xmm2
        ("90 eb00 90", "c5f1efc2", "vpxor"),  # nop; jmp; nop
        ("b9e8030000 48ffc9 75fb", "c5f1efc2", "vpxor"),  # mov ecx, 1000; dec rcx; jnz
        ("bf05000000 cd80", "65c5fa6f00", "vmovdqu"),  # int 0x80; vmovdqu xmm0, xmmword ptr gs:[rax]
        ("90", "c4e27918c1", "vbroadcastss"),
        ("90", "62f1fd086f06", "vmovdqa64"),
        ("90", "8fe978c1c1", "vphaddbw"),  # XOP
        ("90", "c5f8a2", "unknown instruction"),  # cpuid, with VEX
    ],
)
def test_code_that_would_be_run_wrongly_is_refused(before: str, wrong: str, name: str) -> None:
    ended, cpu = ran(f"{before} {wrong} 0f05")
    assert ended == signal.SIGILL
    assert cpu.refused == (PLACE + len(bytes.fromhex(before)), name)
    assert cpu.read_register("RIP") <= PLACE + len(bytes.fromhex(before))


@pytest.mark.parametrize(
    "code",
    [
        "b8c562c48f",  # mov eax, 0x8fc462c5
        "c4e2f9f7c1",  # shlx rax, rcx, rax
        "c4e3fbf0c105",  # rorx rax, rcx, 5
        "c4e2f0f2c2",  # andn rax, rcx, rdx
        "660fefc5",  # pxor xmm0, xmm5
        "6a05 8fc0",  # push 5; pop rax
    ],
)
def test_code_with_the_same_bytes_runs(code: str) -> None:
    ended, cpu = ran(f"488d2500010000 {code} 0f05", PROT_READ | PROT_WRITE | PROT_EXEC)  # lea rsp, [rip+256]
    assert (ended, cpu.refused) == (0, None)


def test_each_block_is_looked_at_before_it_runs_first() -> None:
    """Behind a system call, in code that was run before it was changed, and across pages."""
    cpu = ProgramCpu()
    memory = AddressSpace(cpu.uc)
    memory.map(PLACE, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC)
    memory.fill(PLACE, bytes.fromhex("0f05 0f05 90 c5f1efc2 0f05"))
    cpu.start(PLACE, PLACE + PAGE_SIZE)
    assert [cpu.run() for _ in range(3)] == [0, 0, signal.SIGILL]
    assert cpu.refused == (PLACE + 5, "vpxor")

    cpu = ProgramCpu()
    memory = AddressSpace(cpu.uc)
    memory.map(PLACE, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC)
    # nop at the end of the first page; then mov dword [rip - 9], 0xc2eff1c5; jmp to what was written
    ahead = bytes.fromhex("90 90909090 c705 f2ffffff c5f1efc2 ebf0")
    memory.fill(PLACE + PAGE_SIZE - 1, ahead)
    cpu.start(PLACE + PAGE_SIZE - 1, PLACE + PAGE_SIZE)
    assert cpu.run() == signal.SIGILL
    assert cpu.refused == (PLACE + PAGE_SIZE, "vpxor")
