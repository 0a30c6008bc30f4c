"""Per-CPU variables and pointers, which the twin uses relative to the trusted kernel's per-CPU area.

The twin's `%gs:` references reach the trusted kernel's per-CPU variables, which is right for its own
(`current`, `preempt_count`). Where those variables have addresses of the kernel image (see
text/per_cpu_references.py), the references are changed to name home's, and `this_cpu_off`, the distance from
such an address to the running CPU's variable, is replaced by the distance from the twin's addresses.

A per-CPU *pointer* out of the snapshot (a counter of references, say) is an offset into the snapshot's areas:
relative to ours it leads nowhere, and faults. There it is redirected to the area of the snapshot's first CPU,
by changing the register that holds it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
from hybridbridge_vol.bridge.text.twin_text import HomeFields
from hybridbridge_vol.machine.cpu import GS_BASE_MSR, MAX_INSTRUCTION_SIZE
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.trust.placement import RAM_SIZE, UNUSED_PADDR
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel
from hybridbridge_vol.units import START_KERNEL_MAP, U64

_GS_PREFIX = 0x65
_LEGACY_PREFIXES = frozenset((0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x66, 0x67))


def boot_margin(kernel: StoredKernel) -> int:
    """How far from the snapshot's kernel image the trusted one's must lie, in bytes.

    Where per-CPU pointers have addresses of the kernel image, a pointer of the snapshot that is used with the
    trusted kernel's GS leads as far beside the trusted per-CPU area as the two images are apart. There must
    be no memory at that distance.
    """
    return RAM_SIZE if (kernel.symbols.get("__per_cpu_start") or 0) >= START_KERNEL_MAP else 0


def home_per_cpu_fields(
    boot: Boot, per_cpu: PerCpuText, sides: Sides, ram: HostMapping
) -> tuple[HomeFields, ...]:
    """The twin's references to per-CPU variables, which must reach home's.

    What they read in the place of `this_cpu_off` is put into `ram`, where the trusted kernel uses nothing.
    """
    if per_cpu.start == per_cpu.end:
        return (HomeFields(per_cpu.fields, 0),)
    gs = boot.state.gs_base
    distance = (gs - sides.snapshot_delta + sides.home_delta) & U64
    ram.view[UNUSED_PADDR : UNUSED_PADDR + 8] = distance.to_bytes(8, "little")
    ours = (gs + sides.symbols.address("this_cpu_off") + sides.home_delta) & U64
    return (
        HomeFields(per_cpu.fields, 0),
        HomeFields(per_cpu.offset_fields, boot.layout.page_offset_base + UNUSED_PADDR - ours),
    )


def redirect(space: SnapshotSpace, per_cpu_offset_vaddr: int, machine: Machine, rip: int, cr2: int) -> bool:
    """After a page fault at `cr2` of the twin's instruction at `rip`: redirect the per-CPU pointer that it
    used to the area of the snapshot's first CPU, which `__per_cpu_offset` (at the given address) begins with.

    False if the instruction uses none, or if it leads nowhere there either. If the page there is withheld,
    the next fault says so.
    """
    try:
        register = _per_cpu_register(machine.read(rip, MAX_INSTRUCTION_SIZE))
        if register is None:
            return False
        ours = machine.read_msr(GS_BASE_MSR)
        with space.all_lent():  # a number: where it leads is looked at below
            theirs = machine.read_u64(per_cpu_offset_vaddr)
    except UnmappedVirtual:
        return False
    target = (cr2 - ours + theirs) & U64
    translation = machine.translate(target)
    if translation is None and space.complete(target):
        translation = machine.translate(target)
    if not space.withholds(target) if translation is None else translation.paddr < SNAPSHOT_PADDR:
        return False
    machine.write_register(register, (machine.read_register(register) + theirs - ours) & U64)
    return True


def _per_cpu_register(code: bytes) -> str | None:
    """The base register, in upper case, of an instruction that addresses memory by `%gs:disp(%reg)`; None if
    it does not."""
    prefixes = 0
    while prefixes < len(code) and code[prefixes] in _LEGACY_PREFIXES:
        prefixes += 1
    if _GS_PREFIX not in code[:prefixes]:
        return None
    capstone, x86, disassembler = _disassembler()
    for instruction in disassembler.disasm(code, 0, 1):
        for operand in instruction.operands:
            memory = operand.mem if operand.type == capstone.CS_OP_MEM else None
            if memory is not None and memory.segment == x86.X86_REG_GS and not memory.index and memory.base:
                name: str = instruction.reg_name(memory.base)
                return name.upper() if name.startswith("r") and name != "rip" else None
    return None


@cache
def _disassembler() -> tuple[Any, Any, Any]:
    """capstone (which has no types), its constants, and a disassembler."""
    import capstone  # takes 60 ms, and most answers never fault this way
    from capstone import x86_const

    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    return capstone, x86_const, disassembler
