"""The registers of the image's CPUs: silent as the kernel sets them, and whatever else is in them is told."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from ending_guest import Ending, ended
from generations import GENERATIONS, Lab
from saved_state import save_state
from several_kernels import after_kexec
from victims import check

from hybridbridge_vol.check.cpu_registers import Usual, unusual
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import CpuRegisters

ENTRY, COMPAT, IDT, ELSEWHERE = 0xFFFFFFFF81000080, 0xFFFFFFFF81001870, 0xFFFFFE0000000000, 0xFFFFFFFFC0001000
SMEP_SMAP = 3 << 20
ON, OFF = 0x80050033, 0x60000010
"""CR0 of a CPU at work, and of one that was not started."""
USUAL = Usual(
    {"lstar": frozenset({ENTRY}), "cstar": frozenset({COMPAT})},
    frozenset({IDT}),
    SMEP_SMAP,
    frozenset({0x1000}),
)
CLEAN = CpuRegisters(0x2000, ON, SMEP_SMAP | 0x20, IDT, ENTRY, COMPAT, 0, (0,) * 8)


def enabled(*vaddrs: int) -> tuple[int, ...]:
    """DR0 to DR7 with these breakpoints switched on."""
    return (*vaddrs, *(0,) * (7 - len(vaddrs)), 0x400 | sum(2 << 2 * number for number in range(len(vaddrs))))


@pytest.mark.parametrize(
    "registers",
    [
        CLEAN,
        CLEAN._replace(lstar=0, cstar=0, idt_vaddr=0),  # FRED takes their place
        CLEAN._replace(debug=enabled(0x1000)),  # one that the kernel has noted
        CLEAN._replace(debug=(ELSEWHERE, *(0,) * 6, 0x400)),  # not switched on
        CpuRegisters(0x2000),  # the format has no more
        CLEAN._replace(cr0=OFF, cr4=0, idt_vaddr=0x1234, lstar=0x1234),
    ],
)
def test_what_the_kernel_sets_is_silent(registers: CpuRegisters) -> None:
    assert list(unusual(registers, USUAL)) == []


@pytest.mark.parametrize(
    ("changed", "register", "found", "leads"),
    [
        ({"lstar": ELSEWHERE}, "MSR_LSTAR", f"{ELSEWHERE:#x}", ELSEWHERE),
        ({"cstar": ENTRY}, "MSR_CSTAR", f"{ENTRY:#x}", ENTRY),
        ({"idt_vaddr": ELSEWHERE}, "IDTR", f"{ELSEWHERE:#x}", ELSEWHERE),
        ({"cr0": ON & ~(1 << 16)}, "CR0", "0x80040033: what is read-only can be written to", None),
        ({"cr4": 1 << 20}, "CR4", "0x100000", None),
        ({"debug": enabled(0x1000, ELSEWHERE)}, "DR1", f"a breakpoint at {ELSEWHERE:#x}", ELSEWHERE),
    ],
)
def test_each_other_value_is_told(
    changed: dict[str, Any], register: str, found: str, leads: int | None
) -> None:
    (row,) = unusual(CLEAN._replace(**changed), USUAL)
    assert (row.register, row.found, row.leads) == (register, found, leads)


def test_breakpoints_are_not_judged_where_the_kernels_own_are_unknown() -> None:
    registers = CLEAN._replace(debug=enabled(ELSEWHERE))
    assert list(unusual(registers, USUAL._replace(breakpoints=None))) == []


def test_a_table_of_interrupts_that_another_replaces_is_found_in_a_dump_of_qemus(
    lab: Lab, tmp_path: Path
) -> None:
    lab.sample("6.1 two CPUs")  # which shares its kernel
    path = tmp_path / "dump.kdump"
    shutil.copy(after_kexec(lab.store) / path.name, path)
    with open_image(path) as image:
        (cpu,) = image.cpus
    assert cpu.idt_vaddr and cpu.cr0
    assert rows_of(lab, path) == []
    _replace(path, struct.pack("<QQ", cpu.idt_vaddr, cpu.cr0), struct.pack("<Q", ELSEWHERE))
    (row,) = rows_of(lab, path)
    assert (row["WHAT"], row["SYMBOL"], row["FOUND"]) == ("register", "IDTR of CPU 0", f"{ELSEWHERE:#x}")
    assert row["ADDRESS"] is row["OFFSET"] is None
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATIONS)
def test_another_entry_of_system_calls_is_found_in_a_state_that_qemu_saved(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    lab.sample(name)
    path = tmp_path / "state.qevm"
    kernel = GENERATIONS[name].kernel
    with ended(Ending(kernel, "ready", cpus=2), tmp_path, can_be_saved=True) as guest:
        save_state(guest, path.name)
    with open_image(path) as image:
        first, second = image.cpus
    assert first.lstar == second.lstar and first.lstar and first.cstar and len(first.debug) == 8
    assert rows_of(lab, path) == []
    _replace(path, struct.pack(">QQ", first.lstar, first.cstar), struct.pack(">Q", ELSEWHERE))
    (row,) = rows_of(lab, path)
    assert (row["SYMBOL"], row["FOUND"]) == ("MSR_LSTAR of CPU 0", f"{ELSEWHERE:#x}")
    shutil.rmtree(tmp_path, ignore_errors=True)


def rows_of(lab: Lab, path: Path) -> list[dict[str, Any]]:
    with open_session(path, lab.store.root) as session:
        return check(session)


def _replace(path: Path, words: bytes, others: bytes) -> None:
    """Put other bytes where the file has these first."""
    with open(path, "r+b") as stream:
        at = stream.read().index(words)
        stream.seek(at)
        stream.write(others)
