"""Per-CPU variables and pointers, used by the twin relative to the trusted kernel's per-CPU area.

The twin's `%gs:` references reach the trusted kernel's per-CPU variables, which is right for its own
(`current`, `preempt_count`). Where those variables have addresses of the kernel image (see percpu_text.py),
the references are made to name home's, and `this_cpu_off`, the distance from such an address to the running
CPU's variable, is replaced by the distance from the twin's addresses.

A per-CPU *pointer* out of the snapshot (a counter of references, say) is an offset into the snapshot's areas:
relative to ours it leads nowhere, and faults. There it is made to lead into the area of the snapshot's first
CPU, by moving the register that holds it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hybridbridge_vol.bridge.space import SNAPSHOT_PADDR
from hybridbridge_vol.machine.machine import GS_BASE_MSR, Machine, UnmappedVirtual
from hybridbridge_vol.trust.placement import RAM_SIZE, START_KERNEL_MAP, UNUSED_PADDR
from hybridbridge_vol.units import U64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridbridge_vol.bridge.attachment import Bridge
    from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
    from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
    from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel

_MAX_INSTRUCTION = 15
_GS_PREFIX = 0x65
_LEGACY_PREFIXES = frozenset((0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x66, 0x67))


def boot_margin(kernel: StoredKernel) -> int:
    """How far from the snapshot's kernel image the trusted one's must lie, in bytes.

    Where per-CPU pointers have addresses of the kernel image, one of the snapshot's, used with the trusted
    kernel's GS, leads as far beside the trusted per-CPU area as the two images are apart. So far it must not
    be memory.
    """
    return RAM_SIZE if (kernel.symbols.get("__per_cpu_start") or 0) >= START_KERNEL_MAP else 0


def place_offset(
    machine: Machine, kernel: StoredKernel, boot: Boot, per_cpu: PerCpuText, layout: SnapshotLayout
) -> tuple[tuple[Sequence[int], int], ...]:
    """What `twin.TwinText` needs as `at_home`: the twin's references to per-CPU variables.

    What it reads in the place of `this_cpu_off` is put into memory that the trusted kernel does not use.
    """
    if per_cpu.start == per_cpu.end:
        return ()
    ours = machine.read_msr(GS_BASE_MSR)
    place = boot.layout.page_offset_base + UNUSED_PADDR
    machine.write_u64(place, (ours - layout.shift + boot.layout.kernel_delta) & U64)
    own = ours + kernel.symbols.address("this_cpu_off") + boot.layout.kernel_delta & U64
    return ((per_cpu.fields, 0), (per_cpu.offset_fields, place - own))


def current_of(bridge: Bridge, cpu: int) -> int:
    """The task that one of the snapshot's CPUs was at: virtual address of its `task_struct`.

    `current_task` of its per-CPU area; kernels from 6.2 to 6.13 keep it first in `pcpu_hot`. KeyError if the
    kernel has neither, UnmappedVirtual if the image does not hold it.
    """
    machine = bridge.machine
    name = next(
        (name for name in ("current_task", "pcpu_hot") if name in bridge.kernel.symbols), "current_task"
    )
    area = machine.read_u64(bridge.snapshot("__per_cpu_offset") + 8 * cpu)
    return machine.read_u64((area + bridge.snapshot(name)) & U64)


def redirect(bridge: Bridge, machine: Machine, rip: int, cr2: int) -> bool:
    """After a page fault of the twin's instruction at `rip`: move the per-CPU pointer it used to the
    snapshot's area.

    False if the instruction uses none, or if it leads nowhere there either.
    """
    try:
        register = _per_cpu_register(machine.read(rip, _MAX_INSTRUCTION))
        if register is None:
            return False
        ours = machine.read_msr(GS_BASE_MSR)
        theirs = machine.read_u64(bridge.snapshot("__per_cpu_offset"))
    except (UnmappedVirtual, KeyError):
        return False
    target = (cr2 - ours + theirs) & U64
    translation = machine.translate(target)
    if translation is None and bridge.space.complete(target):
        translation = machine.translate(target)
    if translation is None or translation.paddr < SNAPSHOT_PADDR:
        return False
    machine.write_register(register, (machine.read_register(register) + theirs - ours) & U64)
    return True


def _per_cpu_register(code: bytes) -> str | None:
    """The base register of `%gs:disp(%reg)` if that is how the instruction addresses memory."""
    prefixes = 0
    while prefixes < len(code) and code[prefixes] in _LEGACY_PREFIXES:
        prefixes += 1
    if _GS_PREFIX not in code[:prefixes]:
        return None
    for instruction in _disassembler().disasm(code, 0, 1):
        for operand in instruction.operands:
            if (
                operand.type == _x86().X86_OP_MEM
                and operand.mem.segment == _x86().X86_REG_GS
                and not operand.mem.index
            ):
                name = instruction.reg_name(operand.mem.base) if operand.mem.base else ""
                return name.upper() if name and name.startswith("r") and name != "rip" else None
    return None


@cache
def _disassembler() -> Any:
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    return disassembler


def _x86() -> Any:
    from capstone import x86_const

    return x86_const
