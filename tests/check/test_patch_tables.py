"""Tables of patch sites and of interrupt gates: of a small kernel made by hand, and of any bytes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.check.interrupt_gates import ExpectedGates, Gate, read_gates
from hybridbridge_vol.check.patch_tables import Alternative, StaticCall, read_patch_tables
from hybridbridge_vol.kernel_file.symbols import Symbols

TEXT = 0xFFFF_FFFF_8100_0000
BOUNDS = {
    "alternatives": ("__alt_instructions", "__alt_instructions_end"),
    "paravirt": ("__parainstructions", "__parainstructions_end"),
    "branches": ("__start___jump_table", "__stop___jump_table"),
    "static_calls": ("__start_static_call_sites", "__stop_static_call_sites"),
    "constants": ("__start_runtime_ptr_hash", "__stop_runtime_ptr_hash"),
    "mcount": ("__start_mcount_loc", "__stop_mcount_loc"),
    "returns": ("__return_sites", "__return_sites_end"),
    "retpolines": ("__retpoline_sites", "__retpoline_sites_end"),
    "locks": ("__smp_locks", "__smp_locks_end"),
    "seals": ("__ibt_endbr_seal", "__ibt_endbr_seal_end"),
    "preambles": ("__cfi_sites", "__cfi_sites_end"),
}


def symbols(*named: tuple[int, str]) -> Symbols:
    """Symbols by their offsets."""
    return Symbols.build((TEXT + offset, "T", name) for offset, name in named)


def bounds(name: str, start: int, end: int) -> tuple[tuple[int, str], tuple[int, str]]:
    """The symbols around a table."""
    first, last = BOUNDS[name]
    return (start, first), (end, last)


@given(st.binary(max_size=400), st.sampled_from(sorted(BOUNDS)), st.integers(-8, 400), st.integers(-8, 408))
def test_no_bytes_make_a_table_lead_out_of_the_kernel(flat: bytes, name: str, start: int, end: int) -> None:
    tables = read_patch_tables(flat, symbols(*bounds(name, start, end)), TEXT)
    for table in vars(tables).values():
        for entry in table:
            place = entry if isinstance(entry, int) else entry[0]
            assert 0 <= place < len(flat)


def test_the_length_of_an_alternative_s_entry_is_found_by_trying() -> None:
    """Up to 5.12 13 bytes, then 12, from 6.3 on 14."""
    wanted = Alternative(0x10, 5, 0x40, 3)
    for layout, rest in (("<iiHBBB", (1, 5, 3, 0)), ("<iiHBB", (1, 5, 3)), ("<iiIBB", (1, 5, 3))):
        flat = bytearray(0x200)
        size = struct.calcsize(layout)
        for number in range(5):
            at = 0x100 + number * size
            struct.pack_into(layout, flat, at, 0x10 - at, 0x40 - at - 4, *rest)
        found = read_patch_tables(flat, symbols(*bounds("alternatives", 0x100, 0x100 + 5 * size)), TEXT)
        assert found.alternatives == [wanted] * 5


def test_trampolines_of_static_calls_are_patch_sites_too() -> None:
    found = read_patch_tables(
        bytes(64), symbols((8, "__SCT__tick"), (32, "__SCK__tick"), (40, "__SCT__lost")), TEXT
    )
    assert found.static_calls == [StaticCall(8, 32, True)]


def test_the_last_paravirt_entry_may_lack_its_padding() -> None:
    flat = bytearray(64)
    struct.pack_into("<QBB6x", flat, 16, TEXT + 1, 9, 7)
    struct.pack_into("<QBB2x", flat, 32, TEXT + 2, 9, 6)
    assert read_patch_tables(flat, symbols(*bounds("paravirt", 16, 44)), TEXT).paravirt == [(1, 7), (2, 6)]


def gates() -> ExpectedGates:
    """A kernel with one table, one numbered entry (which begins a section with a name of its own) and one
    entry of a hypervisor."""
    flat = bytearray(256)
    struct.pack_into("<IIH6xQ", flat, 0x40, 14, 0x10, 0x8E00, TEXT + 0x10)
    struct.pack_into("<IIH6xQ", flat, 0x58, 3, 0x10, 0xEE00, TEXT + 0x18)
    flat[0x80:0x88] = b"\xf3\x0f\x1e\xfa\x6a\x21\xe9\x00"
    named = ((0x10, "asm_exc_page_fault"), (0x18, "asm_exc_int3"), (0x40, "def_idts"), (0x70, "other"))
    entries = (
        (0x80, "__irqentry_text_start"),
        (0x80, "irq_entries_start"),
        (0x90, "asm_sysvec_kvm_asyncpf_interrupt"),
        (0xA0, "_end"),
    )
    return ExpectedGates(flat, symbols(*named, *entries), TEXT)


def test_a_gate_must_lead_where_the_kernel_s_own_table_or_entry_for_its_vector_says() -> None:
    expected = gates()
    fault, breakpoint_gate = Gate(TEXT + 0x10, 0x10, 0x8E00), Gate(TEXT + 0x18, 0x10, 0xEE00)
    assert expected.allows(14, fault)
    assert expected.usual(14) == fault
    assert expected.allows(3, breakpoint_gate)
    assert expected.allows(0x21, Gate(TEXT + 0x80, 0x10, 0x8E00))
    assert expected.allows(0xF3, Gate(TEXT + 0x90, 0x10, 0x8E00))
    assert not expected.allows(13, fault), "another vector"
    assert not expected.allows(14, fault._replace(bits=0xEE00)), "open to user space"
    assert not expected.allows(14, fault._replace(selector=0x33)), "another segment"
    assert not expected.allows(14, fault._replace(handler=TEXT + 0x12)), "into the middle"
    assert not expected.allows(0x22, Gate(TEXT + 0x80, 0x10, 0x8E00)), "an entry of another number"
    assert not expected.allows(14, Gate(TEXT + 0x90, 0x10, 0x8E00)), "a hypervisor's entry at an exception"


@given(st.binary(max_size=200))
def test_any_bytes_are_so_many_gates(table: bytes) -> None:
    expected = gates()
    found = read_gates(table)
    assert len(found) == len(table) // 16
    for vector, gate in enumerate(found):
        expected.allows(vector, gate)
