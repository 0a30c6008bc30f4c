"""A window beside the trusted kernel's per-CPU area through which `%gs:` references reach the snapshot's.

Per-CPU variables of a module's own are nowhere in the trusted kernel. Their block lies in the snapshot's
per-CPU area (`module->percpu`, kernel/module/main.c), farther from where GS leads than a displacement of 32
bits can name. So the pages of the snapshot's first CPU's area are mapped once more, where it can, and such a
reference is made to name them there: reads find the snapshot's values, writes are private and rolled back as
all writes are.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybridbridge_vol.units import U64

NAMES = range(0x2000_0000, 0x2020_0000)
"""What is added to GS to get into the window. Code of the modules area reaches these names by a displacement
from RIP (it lies in the last GiB), the trusted kernel's memory ends below them (its RAM_SIZE), and a per-CPU
pointer of the snapshot's does not get there (`percpu.boot_margin`). A unit of the first chunk, which has the
modules' blocks, is far smaller."""


@dataclass(frozen=True, slots=True)
class PerCpuWindow:
    """`gs` is the trusted kernel's GS base; `start` the address in the snapshot at which its per-CPU
    variables begin (`__per_cpu_start`; 0 where they are linked at 0); `offset` what its first CPU adds to
    such an address."""

    gs: int
    start: int
    offset: int

    @property
    def vaddrs(self) -> range:
        """Virtual addresses of the window."""
        return range(self.gs + NAMES.start, self.gs + NAMES.stop)

    def name_of(self, vaddr: int) -> int:
        """What a `%gs:` reference must name to reach the snapshot's per-CPU variable at `vaddr`."""
        return vaddr - self.start + NAMES.start & U64

    def shown(self, vaddr: int) -> int:
        """The virtual address in the snapshot of what an address of the window shows."""
        return vaddr - self.vaddrs.start + self.start + self.offset & U64
