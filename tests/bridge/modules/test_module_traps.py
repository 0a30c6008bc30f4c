"""A module's tables of warnings and fix-ups, whatever the length of their entries and whatever is in them."""

from __future__ import annotations

import struct

import pytest
from generations import Lab
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.modules.traps import fix_ups_of, warnings_of
from hybridbridge_vol.kernel_file.module import ModuleFile, Section
from hybridbridge_vol.trust.modules import read

CODE = 0xFFFF_FFFF_C050_0000
TEXT = b"\x90" * 16 + b"\x0f\x0b" + b"\x90" * 14 + b"\x0f\x0b" + b"\x90" * 30


def table(data: bytes) -> Section:
    return Section(1, "__bug_table", 3, 1, len(data), memoryview(data))


@pytest.mark.parametrize("size", [8, 12, 16])
def test_the_flags_at_the_end_of_an_entry_distinguish_a_warning_from_a_bug(size: int) -> None:
    warning, bug = bytes(size - 2) + struct.pack("<H", 0x901), bytes(size)
    values = {0: CODE + 16, 4: CODE + 0x9000, size: CODE + 32, size + 4: CODE + 0x9000}
    assert warnings_of(table(warning + bug), values, TEXT, CODE) == {CODE + 16}
    assert warnings_of(table(bug + warning), values, TEXT, CODE) == {CODE + 32}


def test_an_entry_that_does_not_lead_to_a_ud2_is_left_out() -> None:
    """7.x has entries for calls of __WARN_trap, too."""
    assert warnings_of(table(bytes(10) + b"\1\0"), {0: CODE + 3}, TEXT, CODE) == frozenset()


@given(st.binary(max_size=96), st.dictionaries(st.integers(0, 96), st.integers(CODE - 8, CODE + 80)))
def test_any_table_gives_only_addresses_of_a_ud2(data: bytes, values: dict[int, int]) -> None:
    found = warnings_of(table(data), values, TEXT, CODE)
    assert found <= {CODE + 16, CODE + 32}


def test_nearly_all_fix_ups_of_kvm_are_supported(lab: Lab, generation: str) -> None:
    """kvm of each generation has some hundred; those of model-specific registers are left out."""
    data = read(lab.session(generation).bridge.kernel.folder, "kvm")
    assert data is not None
    file = ModuleFile(data, "kvm")
    faults = file.section("__ex_table")
    assert faults is not None
    sections = {section.number: CODE + (section.number << 24) for section in file.sections}
    values = {
        item.offset: sections.get(file.symbol(item.symbol).section, 0)
        + file.symbol(item.symbol).value
        + item.addend
        for item in file.relocations(faults.number)
    }
    found = fix_ups_of(file, faults, values)
    assert len(found) >= 0.9 * faults.size / 12
    assert all(fix_up.vaddr > CODE for fix_up in found.values())
    assert "RSP" not in {fix_up.register for fix_up in found.values()}
