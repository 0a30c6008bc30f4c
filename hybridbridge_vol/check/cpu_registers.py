"""The registers of the CPUs, where the image's format has them: by which system calls and interrupts enter
the kernel, what protects its memory, and breakpoints that it does not know of.

The kernel sets them when a CPU starts or wakes up (arch/x86/kernel/cpu/common.c, `syscall_init`, `cr4_init`;
arch/x86/kernel/idt.c), and nothing in its memory tells what is in them later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge import cpu_entry_area
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.sides import moved
from hybridbridge_vol.check.difference import Difference
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.memory_image.physical import CpuRegisters
from hybridbridge_vol.snapshot.evidence import roots_of
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import U64

_ENTRIES = {
    "lstar": ("entry_SYSCALL_64",),
    "cstar": ("entry_SYSCALL_compat", "ignore_sysret", "entry_SYSCALL32_ignore"),
    "sysenter_eip": ("entry_SYSENTER_compat",),
}
"""Where the kernel lets each kind of system call enter. Without that kind, and where FRED takes its place
(arch/x86/kernel/fred.c), the register is 0."""
_NAMES = {"lstar": "MSR_LSTAR", "cstar": "MSR_CSTAR", "sysenter_eip": "MSR_IA32_SYSENTER_EIP"}
_PAGING, _WRITE_PROTECT = 1 << 31, 1 << 16
_BREAKPOINTS = 4


class Usual(NamedTuple):
    """What the kernel has in these registers, as addresses of the snapshot: `entries` by register, `idts`,
    the bits that it never clears in CR4 (`cr4_pinned_bits`), and the addresses of breakpoints that it has
    set on any CPU (None: unknown)."""

    entries: dict[str, frozenset[int]]
    idts: frozenset[int]
    cr4: int = 0
    breakpoints: frozenset[int] | None = None


class Unusual(NamedTuple):
    """A register that has something else. `leads`: the address that it leads to."""

    register: str
    expected: str
    found: str
    leads: int | None = None


def unusual(registers: CpuRegisters, usual: Usual) -> Iterator[Unusual]:
    """What is not as the kernel has it. Of a CPU that was not started, which has paging switched off, nothing
    is said."""
    if registers.cr0 is not None and not registers.cr0 & _PAGING:
        return
    for name, entries in usual.entries.items():
        value = getattr(registers, name)
        if value and entries and value not in entries:
            yield Unusual(_NAMES[name], _addresses(entries), f"{value:#x}", value)
    idt = registers.idt_vaddr
    if idt and idt not in usual.idts:
        yield Unusual("IDTR", _addresses(usual.idts), f"{idt:#x}", idt)
    yield from _protection(registers.cr0, registers.cr4, usual.cr4)
    if usual.breakpoints is not None:
        for number, vaddr in _breakpoints(registers.debug):
            if vaddr not in usual.breakpoints:
                yield Unusual(f"DR{number}", "no breakpoint", f"a breakpoint at {vaddr:#x}", vaddr)


def _protection(cr0: int | None, cr4: int | None, pinned: int) -> Iterator[Unusual]:
    if cr0 is not None and not cr0 & _WRITE_PROTECT:
        yield Unusual("CR0", "bit 16 (WP)", f"{cr0:#x}: what is read-only can be written to")
    if cr4 is not None and pinned & ~cr4:
        yield Unusual("CR4", f"bits {pinned:#x}", f"{cr4:#x}")


def _breakpoints(debug: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """`(number, address)` of those that DR7 has switched on: two bits for each (SDM volume 3B, 18.2.4)."""
    if len(debug) == 8:
        for number in range(_BREAKPOINTS):
            if debug[7] & 3 << 2 * number:
                yield number, debug[number]


def _addresses(values: frozenset[int]) -> str:
    return " or ".join(f"{value:#x}" for value in sorted(values))


# --- of a snapshot ----------------------------------------------------------------------------------------


def register_differences(bridge: Bridge, places: Places) -> Iterator[Difference]:
    """The registers of the image's CPUs that run this kernel, compared."""
    cpus = [(number, cpu) for number, cpu in enumerate(bridge.image.cpus) if _runs_on(bridge, cpu)]
    if not cpus:
        return
    usual = _usual(bridge)
    for number, registers in cpus:
        for one in unusual(registers, usual):
            leads = None if one.leads is None else places.leads([one.leads])
            symbol = f"{one.register} of CPU {number}"
            yield Difference("register", None, None, symbol, one.expected, one.found, leads)


def _runs_on(bridge: Bridge, cpu: CpuRegisters) -> bool:
    """Whether a CPU's page tables map this kernel: there may be another one in the image."""
    layout = bridge.layout
    found = (layout.translate(bridge.image, layout.text_vaddr, root) for root in roots_of(cpu.cr3))
    return any(place is not None and place.paddr == layout.text_paddr for place in found)


def _usual(bridge: Bridge) -> Usual:
    def addresses(*names: str) -> frozenset[int]:
        return frozenset(vaddr for name in names for vaddr in bridge.sides.snapshot_all(name))

    return Usual(
        {register: addresses(*names) for register, names in _ENTRIES.items()},
        # the table is seen through the first page of the CPUs' entry area (arch/x86/mm/cpu_entry_area.c)
        addresses("idt_table") | {cpu_entry_area.START},
        _word(bridge, "cr4_pinned_bits"),
        _set_by_kernel(bridge),
    )


def _word(bridge: Bridge, name: str) -> int:
    """A variable of the kernel; 0 if there is none, or it cannot be read."""
    try:
        return bridge.virtual_memory.read_u64(bridge.snapshot(name))
    except (KeyError, UnreadableVirtual):
        return 0


def _set_by_kernel(bridge: Bridge) -> frozenset[int] | None:
    """The addresses of the breakpoints that the kernel has noted for each CPU, all that it sets for itself
    and for programs (arch/x86/kernel/hw_breakpoint.c, `cpu_debugreg`). None if any cannot be read."""
    variable, offsets = bridge.kernel.symbols.get("cpu_debugreg"), bridge.sides.per_cpu_offsets
    if variable is None:
        return None
    read, first = bridge.virtual_memory.read_u64, moved(variable, bridge.layout.shift)
    try:
        areas = [0 if offsets is None else read(offsets + 8 * cpu) for cpu in bridge.layout.cpu_numbers]
        places = [first + area + 8 * number & U64 for area in areas for number in range(_BREAKPOINTS)]
        return frozenset(map(read, places))
    except UnreadableVirtual:
        return None
