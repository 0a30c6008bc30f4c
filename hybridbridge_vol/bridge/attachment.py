"""A trusted kernel attached to a snapshot: what every part of the bridge shares."""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.allowance import Allowance
from hybridbridge_vol.bridge.faults import FaultHandler
from hybridbridge_vol.bridge.image_pages import ImagePages
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import UPPER_HALF, SnapshotSpace
from hybridbridge_vol.bridge.text.prepared import Prepared
from hybridbridge_vol.bridge.twin_pages import TwinPages
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.snapshot.machine_state import NORMAL, MachineState
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.trust.stored_kernel import Boot, MemoryCheck, StoredKernel


class Bridge(NamedTuple):
    """A trusted kernel attached to a snapshot, as `attach` makes it.

    The trusted side: `kernel`, its `boot`, the running `check` of that boot's memory, what is `prepared` for
    it, its `ram`. The snapshot's: `virtual_memory`. Both: `sides`, `memo`, and the parts of the machine's
    memory, `space`, `image_pages` and `twin`. `machine` is FAST-BRIDGE's; `faults` serves every machine over
    this memory. `namespaces`: where the proxy task's nsproxy points to namespaces (virtual addresses), and
    the symbol that each began as. `allowance`: what the answer that is being made may take. `state`: in which
    the machine was. `notes`: what was put right in the snapshot's memory, one line each.

    Its life: calls are made (bridge/run/); `confirm` before any answer counts; `close` once, last.
    """

    kernel: StoredKernel
    boot: Boot
    check: MemoryCheck
    prepared: Prepared
    ram: HostMapping
    virtual_memory: VirtualMemory
    sides: Sides
    memo: Memo
    space: SnapshotSpace
    image_pages: ImagePages
    twin: TwinPages
    faults: FaultHandler
    machine: Machine
    namespaces: dict[int, str]
    allowance: Allowance
    state: MachineState = NORMAL
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> PhysicalImage:
        """The memory image."""
        return self.virtual_memory.image

    @property
    def layout(self) -> SnapshotLayout:
        """Where the snapshot's kernel is."""
        return self.virtual_memory.layout

    @property
    def home_delta(self) -> int:
        """What is added to a link-time address to get home's."""
        return self.sides.home_delta

    def home(self, name: str) -> int:
        """The trusted kernel's symbol (virtual address); KeyError if there is none."""
        return self.sides.home(name)

    def snapshot(self, name: str) -> int:
        """The same symbol on the snapshot's side: its data, or the twin's code. KeyError."""
        return self.sides.snapshot(name)

    def describe(self, vaddr: int) -> str:
        """A code or data address in words, for messages: "twin proc_pid_status+0x10"."""
        in_kernel = self.sides.describe(vaddr)
        if in_kernel is not None:
            return in_kernel
        trusted = self.space.modules.relocated_at(vaddr)
        if trusted is not None:
            return f"module {trusted.module.name} {trusted.module.describe(vaddr)}"
        name = self.space.modules.name_at(vaddr)
        return f"module {name}" if name else f"{vaddr:#x}"

    def may_be_snapshot(self, vaddr: int) -> bool:
        """Whether a number can be a kernel address, and is not one of the trusted kernel's."""
        home = vaddr - self.sides.home_text_vaddr
        return vaddr >= UPPER_HALF and vaddr not in self.boot.layout and not 0 <= home < self.layout.size

    def in_twin(self, vaddr: int) -> bool:
        """Whether an address lies in the snapshot's kernel image window, or in a module's trusted segment."""
        return self.twin.offset_of(vaddr) is not None

    def confirm(self) -> None:
        """Wait for the check of the stored kernel's memory; StoreError if it is damaged."""
        self.check.finish()

    def close(self) -> None:
        """Let the machine and the memory go; nothing can be read any more."""
        mappings = [self.twin.whole, *(mapping for _paddr, mapping in self.machine.memory.regions())]
        self.machine.release()
        for mapping in mappings:
            mapping.discard_writes()
