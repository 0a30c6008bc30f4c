"""References of kernel text to per-CPU variables that are linked into the kernel image."""

from __future__ import annotations

import struct
from typing import Any

import capstone
import pytest
from assembly import assembled
from capstone import x86_const
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.text.kernel_tables import text_functions
from hybridbridge_vol.bridge.text.per_cpu_references import read_per_cpu_text

TEXT = 0xFFFF_FFFF_8100_0000
START, END = 0x2000, 0x3000
THIS_CPU_OFF = 0x2008


def field_of(listing: str, *, sites: tuple[int, ...] = ()) -> tuple[list[int], list[int]]:
    """The fields found in one instruction that stands at offset 16, relocated there at `sites`."""
    text = b"\x90" * 16 + assembled(listing) + b"\x90" * 16
    found = read_per_cpu_text(text, START, END, THIS_CPU_OFF, [16 + site for site in sites], TEXT)
    return [place - 16 for place in found.fields], [place - 16 for place in found.offset_fields]


@pytest.mark.parametrize(
    ("listing", "field"),
    [
        ("658b05e91f0000 mov eax, dword ptr gs:[rip + 0x1fe9]", 3),
        ("65488b05e81f0000 mov rax, qword ptr gs:[rip + 0x1fe8]", 4),
        ("654c8925e81f0000 mov qword ptr gs:[rip + 0x1fe8], r12", 4),
        ("65ff05e91f0000 inc dword ptr gs:[rip + 0x1fe9]", 3),
        ("6566ff05e81f0000 inc word ptr gs:[rip + 0x1fe8]", 4),
        ("65ff35e91f0000 push qword ptr gs:[rip + 0x1fe9]", 3),
        ("65480fb105e71f0000 cmpxchg qword ptr gs:[rip + 0x1fe7], rax", 5),
        ("f06548ff05e71f0000 lock inc qword ptr gs:[rip + 0x1fe7]", 5),
    ],
)
def test_a_reference_relative_to_rip_is_found(listing: str, field: int) -> None:
    assert field_of(listing) == ([field], [])


@pytest.mark.parametrize(
    "listing",
    [
        "65c705e51f000000000000 mov dword ptr gs:[rip + 0x1fe5], 0",
        "65f605e81f000001 test byte ptr gs:[rip + 0x1fe8], 1",
    ],
)
def test_the_first_variable_is_found_though_the_displacement_counts_from_behind_an_operand(
    listing: str,
) -> None:
    assert field_of(listing) == ([3], [])


@pytest.mark.parametrize(
    ("listing", "field"),
    [
        ("65488b04c520200081 mov rax, qword ptr gs:[rax*8 - 0x7effdfe0]", 5),
        ("654c8b14c520200081 mov r10, qword ptr gs:[rax*8 - 0x7effdfe0]", 5),
        ("658b8020200081 mov eax, dword ptr gs:[rax - 0x7effdfe0]", 3),
        ("654c8b8c0120200081 mov r9, qword ptr gs:[rcx + rax - 0x7effdfe0]", 5),
    ],
)
def test_an_absolute_reference_is_found_where_it_is_relocated(listing: str, field: int) -> None:
    assert field_of(listing, sites=(field,)) == ([field], [])
    assert field_of(listing) == ([], [])


def test_references_to_the_distance_itself_are_listed_separately() -> None:
    assert field_of("65488b05f01f0000 mov rax, qword ptr gs:[rip + 0x1ff0]") == ([], [4])
    assert field_of("65480305f01f0000 add rax, qword ptr gs:[rip + 0x1ff0]") == ([], [4])


@pytest.mark.parametrize(
    "listing",
    [
        "658b05e9100000 mov eax, dword ptr gs:[rip + 0x10e9]",  # beside the section
        "8b05e91f0000 mov eax, dword ptr [rip + 0x1fe9]",  # of the image, not of a CPU
        "658b00 mov eax, dword ptr gs:[rax]",
        "658b4010 mov eax, dword ptr gs:[rax + 0x10]",
    ],
)
def test_other_references_are_left_alone(listing: str) -> None:
    assert field_of(listing) == ([], [])


@given(st.binary(max_size=4096), st.integers(0, 8192), st.integers(0, 8192))
def test_whatever_is_found_leads_into_the_section(text: bytes, start: int, size: int) -> None:
    found = read_per_cpu_text(text, start, start + size, None, [], TEXT)
    for place in found.fields:
        (displacement,) = struct.unpack_from("<i", text, place)
        assert start - 4 <= place + 4 + displacement < start + size
        assert 0x65 in text[max(0, place - 10) : place]
    assert list(found.fields) == sorted(found.fields)


def test_what_a_disassembler_sees_in_a_real_kernel_is_found(lab: Any) -> None:
    """In every fortieth function of a kernel of 7.x."""
    bridge = lab.session("7.x").bridge
    per_cpu = bridge.prepared.per_cpu
    found = {*per_cpu.fields, *per_cpu.offset_fields}
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    seen = 0
    for offset, size, _name in list(text_functions(bridge.kernel))[::40]:
        start = bridge.kernel.text_paddr + offset
        code = bytes(bridge.ram.view[start : start + size])
        if b"\x65" not in code:
            continue
        for insn in disassembler.disasm(code, offset):
            for operand in insn.operands:
                if operand.type != x86_const.X86_OP_MEM or operand.mem.segment != x86_const.X86_REG_GS:
                    continue
                target = insn.address + insn.size + operand.mem.disp
                if operand.mem.base == x86_const.X86_REG_RIP and per_cpu.start <= target < per_cpu.end:
                    assert insn.address + insn.disp_offset in found, (
                        f"{insn.address:#x} {insn.mnemonic} {insn.op_str}"
                    )
                    seen += 1
    assert seen > 300
