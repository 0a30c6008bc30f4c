"""A window beside the trusted kernel's per-CPU area through which `%gs:` references reach the snapshot's.

The trusted kernel does not have a module's own per-CPU variables. Their block lies in the snapshot's per-CPU
area (`module->percpu`, kernel/module/main.c), farther from where GS leads than a displacement of 32 bits
reaches. So the area of the snapshot's first CPU is mapped a second time, within reach, and such references
are redirected there: reads find the snapshot's values; writes are private and rolled back like all writes.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.units import U64

NAMES = range(0x2000_0000, 0x2020_0000)
"""What is added to GS to get into the window. Code in the modules area reaches these names by a displacement
from RIP (it lies in the last GiB), the trusted kernel's memory ends below them (its RAM_SIZE), and no per-CPU
pointer of the snapshot leads here (`per_cpu.boot_margin`). A unit of the first chunk of per-CPU memory, which
has the modules' blocks, is far smaller."""


class PerCpuWindow(NamedTuple):
    """`gs` is the trusted kernel's GS base. `start` is where the snapshot's per-CPU variables begin
    (`__per_cpu_start`; 0 if they are linked at 0), `offset` what its first CPU adds to such an address."""

    gs: int
    start: int
    offset: int

    @property
    def vaddrs(self) -> range:
        """Virtual addresses of the window."""
        return range(self.gs + NAMES.start, self.gs + NAMES.stop)

    def name_of(self, vaddr: int) -> int:
        """The address that a `%gs:` reference must have to reach the snapshot's per-CPU variable `vaddr`."""
        return vaddr - self.start + NAMES.start & U64

    def shown(self, vaddr: int) -> int:
        """The virtual address in the snapshot of what is seen at an address of the window."""
        return vaddr - self.vaddrs.start + self.start + self.offset & U64
