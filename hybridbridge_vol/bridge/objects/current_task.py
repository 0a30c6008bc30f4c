"""Which task each CPU of the snapshot was running."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import U64


def current_of(bridge: Bridge, cpu: int) -> int:
    """The task that one of the snapshot's CPUs was running: virtual address of its `task_struct`.

    `current_task` of its per-CPU area; kernels from 6.2 to 6.13 keep it first in `pcpu_hot`. KeyError if the
    kernel has neither, UnreadableVirtual if the image does not hold it, or if it is of the trusted side.
    """
    memory = bridge.virtual_memory
    name = next(
        (name for name in ("current_task", "pcpu_hot") if name in bridge.kernel.symbols), "current_task"
    )
    offsets = bridge.sides.per_cpu_offsets
    area = 0 if offsets is None else memory.read_u64(offsets + 8 * cpu)
    task = memory.read_u64((area + bridge.snapshot(name)) & U64)
    if not bridge.may_be_snapshot(task):
        raise UnreadableVirtual(task)
    return task
