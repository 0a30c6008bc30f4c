"""Relocations recovered from a kernel's code and data, held against those that its linker listed."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.recovered_relocations import recover_relocations
from hybridbridge_vol.kernel_file.relocations import Relocations
from hybridbridge_vol.kernel_file.symbols import Symbols

Lab = Any

TEXT = 0xFFFFFFFF81000000
DATA, PHYS_BASE, TABLE, PER_CPU_END, END = 0x1000, 0x1800, 0x2000, 0x4000, 0x8000


def recovered(code: bytes, data: bytes = b"", table: bytes = b"") -> Relocations:
    """What is found in a kernel with one function, some data and a page table, as offsets from `_text`."""
    flat = bytearray(END)
    flat[: len(code)] = code
    flat[DATA : DATA + len(data)] = data
    flat[TABLE : TABLE + len(table)] = table
    symbols = Symbols.build(
        [
            (0, "D", "__per_cpu_start"), (PER_CPU_END, "D", "__per_cpu_end"),
            (TEXT, "T", "_text"), (TEXT, "T", "function"), (TEXT + len(code), "T", "_etext"),
            (TEXT + DATA, "D", "variable"), (TEXT + PHYS_BASE, "D", "phys_base"),
            (TEXT + TABLE, "D", "init_top_pgt"), (TEXT + TABLE + 0x1000, "D", "level3_kernel_pgt"),
            (TEXT + TABLE + 0x2000, "D", "behind"), (TEXT + END, "B", "_end"),
        ]
    )  # fmt: skip
    return recover_relocations(bytes(flat), symbols)


def places(found: Relocations) -> tuple[list[int], list[int], list[int]]:
    """Offsets of the sites of all three kinds."""
    abs32, inverse32, abs64 = ([site - TEXT for site in part] for part in vars(found).values())
    return abs32, inverse32, abs64


WORD = struct.pack("<Q", TEXT + DATA)
LOW = WORD[:4]


@pytest.mark.parametrize(
    ("code", "site"),
    [
        (b"\x48\xc7\xc7" + LOW + b"\xc3", 3),  # mov rdi, imm32
        (b"\x68" + LOW + b"\xc3", 1),  # push
        (b"\x48\x8b\x04\xc5" + LOW + b"\xc3", 4),  # mov rax, [rax*8 + disp32]
        (b"\x66\x89\x84\x24" + LOW + b"\xc3", 4),  # mov [rsp + disp32], ax
        (b"\x48\xc7\x05\0\0\0\0" + LOW + b"\xc3", 7),  # mov qword [rip], imm32
        (b"\x80\x3c\x25" + LOW + b"\x01\xc3", 3),  # cmp byte [disp32], 1
        (b"\x48\x3d" + LOW + b"\xc3", 2),  # cmp rax, imm32
        (
            b"\x0f\x01\xe8\x48\xc7\xc7" + LOW + b"\xc3",
            6,
        ),  # behind serialize, which is new
    ],
)
def test_an_operand_with_an_address_is_found(code: bytes, site: int) -> None:
    assert places(recovered(code)) == ([site], [], [])


@pytest.mark.parametrize(
    "code",
    [
        b"\xbe" + LOW + b"\xc3",  # mov esi, imm32: 32 bits only
        b"\x48\x25" + LOW + b"\xc3",  # and rax, imm32: a mask
        b"\x48\x25" + LOW + b"\x48\x3d" + LOW + b"\xc3",  # and rax, imm32; cmp rax, imm32: the same mask
        b"\xe8" + LOW + b"\xc3",  # call
        b"\x8d\xad" + LOW + b"\xc3",  # lea ebp, [rbp + disp32]: arithmetic of 32 bits
        b"\x48\xb8" + b"\0\0" + LOW + b"\0\0" + b"\xc3",  # part of a larger number
    ],
)
def test_an_operand_that_only_looks_like_an_address_is_not(code: bytes) -> None:
    assert places(recovered(code)) == ([], [], [])


def test_an_address_of_64_bits_in_code_is_found() -> None:
    assert places(recovered(b"\x48\xb8" + WORD + b"\xc3")) == ([], [], [2])


def test_distances_to_per_cpu_variables_are_found() -> None:
    distance = struct.pack("<I", (0x20 - TEXT - 8) & 0xFFFFFFFF)
    assert places(recovered(b"\x65\x48\x8b\x05" + distance + b"\xc3")) == ([], [4], [])


def test_a_physical_address_is_found_where_phys_base_is_added() -> None:
    add_phys_base = b"\x48\x03\x05" + struct.pack("<i", PHYS_BASE - 17)
    physical = b"\x48\xb8" + struct.pack("<Q", 0x1000000 + DATA)
    assert places(recovered(physical + add_phys_base + b"\xc3")) == ([], [], [2])
    assert places(recovered(physical + b"\xc3")) == ([], [], [])


def test_addresses_in_data_are_found_aligned_or_behind_a_limit() -> None:
    descriptor = struct.pack("<HQ", 0x7F, TEXT + 0x3000)
    assert places(recovered(b"\xc3", bytes(8) + WORD + descriptor)) == ([], [], [DATA + 8, DATA + 18])


def test_entries_of_page_tables_that_lead_to_others_are_found() -> None:
    entries = struct.pack("<4Q", 0x1000000 + TABLE + 0x1000 + 0x63, 0x1E3, 0, 0x1000000 + DATA + 0x63)
    assert places(recovered(b"\xc3", table=entries)) == ([], [], [TABLE])


@pytest.mark.slow
def test_all_that_a_debian_kernel_relocates_is_found(lab: Lab, generation: str) -> None:
    kernel = KernelImage.from_file(lab.sample(generation).kernel_package)
    found = recover_relocations(bytes(kernel.flat()), kernel.symbols)
    flat, start = kernel.flat(), kernel.segments[0].vaddr

    def differences(kind: str, size: int) -> tuple[list[str], list[str]]:
        """Names of the functions or variables of what is missed and what is wrong; zeros do not count."""
        listed, own = set(getattr(kernel.relocations, kind)), set(getattr(found, kind))
        missed = [site for site in listed - own if any(flat[site - start : site - start + size])]
        return [_name(kernel, site) for site in missed], [_name(kernel, site) for site in own - listed]

    assert differences("abs64", 8) == ([], [])
    # templates of code that the kernel copies
    assert set(differences("inverse32", 4)[0]) <= {"skl_call_thunk_template"}
    assert differences("inverse32", 4)[1] == []
    missed, wrong = differences("abs32", 4)
    # descriptors for code of 32 bits that another loader enters by, and the kernel's link address, of which
    # it prints how far it was moved
    assert set(missed) <= {"gdt"}
    assert set(wrong) <= {"dump_kernel_offset"}


def _name(kernel: KernelImage, site: int) -> str:
    found = kernel.symbols.lookup(site)
    return found[0] if found else hex(site)
