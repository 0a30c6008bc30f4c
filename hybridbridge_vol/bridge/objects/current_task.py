"""Which task each CPU of the snapshot was running."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.units import U64


def current_of(bridge: Bridge, cpu: int) -> int:
    """The task that one of the snapshot's CPUs was running: virtual address of its `task_struct`.

    `current_task` of its per-CPU area; kernels from 6.2 to 6.13 keep it first in `pcpu_hot`. KeyError if the
    kernel has neither, UnmappedVirtual if the image does not hold it.
    """
    machine = bridge.machine
    name = next(
        (name for name in ("current_task", "pcpu_hot") if name in bridge.kernel.symbols), "current_task"
    )
    offsets = bridge.sides.per_cpu_offsets
    area = 0 if offsets is None else machine.read_u64(offsets + 8 * cpu)
    return machine.read_u64((area + bridge.snapshot(name)) & U64)
