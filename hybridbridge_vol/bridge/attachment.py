"""A trusted kernel attached to a snapshot: what every part of the bridge shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.space import SnapshotSpace
from hybridbridge_vol.bridge.text.prepared import Prepared
from hybridbridge_vol.bridge.text.rebased_text import TwinText
from hybridbridge_vol.machine.machine import (
    Machine,
)
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.trust.placement import START_KERNEL_MAP
from hybridbridge_vol.trust.stored_kernel import Boot, MemoryCheck, StoredKernel
from hybridbridge_vol.units import U64


@dataclass
class Bridge:
    """A trusted kernel attached to a snapshot. Virtual addresses; `text` is `_text` on each side."""

    kernel: StoredKernel
    boot: Boot
    prepared: Prepared
    image: PhysicalImage
    layout: SnapshotLayout
    machine: Machine
    ram: HostMapping
    space: SnapshotSpace
    twin: TwinText
    memo: Memo
    check: MemoryCheck | None = None
    namespaces: dict[int, str] = field(default_factory=dict)
    """Where the proxy task's nsproxy points to namespaces (virtual addresses), and the symbol that each began
    as."""

    @property
    def home_delta(self) -> int:
        """What is added to a link-time address to get home's."""
        return self.boot.layout.kernel_delta

    def home(self, name: str) -> int:
        """The trusted kernel's symbol; KeyError if there is none."""
        return moved(self.kernel.symbols.address(name), self.home_delta)

    def snapshot(self, name: str) -> int:
        """The same symbol on the snapshot's side: its data, or the twin's code."""
        return moved(self.kernel.symbols.address(name), self.layout.shift)

    def describe(self, vaddr: int) -> str:
        """A code or data address in words, for messages: "twin proc_pid_status+0x10"."""
        for side, text in (
            ("home", self.kernel.text_link_vaddr + self.home_delta),
            ("twin", self.layout.text_vaddr),
        ):
            offset = vaddr - text
            if 0 <= offset < self.layout.size:
                found = self.kernel.symbols.lookup(self.kernel.text_link_vaddr + offset)
                if found:
                    return f"{side} {found[0]}+{found[1]:#x}"
        part = self.space.modules.relocated_at(vaddr)
        if part is not None:
            return f"module {part.module.name} {part.module.describe(vaddr)}"
        name = self.space.modules.name_at(vaddr)
        return f"module {name}" if name else f"{vaddr:#x}"

    def in_twin(self, vaddr: int) -> bool:
        """Whether an address lies in the snapshot's kernel image window, or in a module's trusted part."""
        return self.space.offset_of(vaddr) is not None

    def confirm(self) -> None:
        """Wait until the stored kernel's memory has proved whole; StoreError if it is not. Before any answer
        counts."""
        if self.check is not None:
            self.check.finish()

    def close(self) -> None:
        """Let the machine and the memory go; nothing can be read any more."""
        mappings = [self.space.whole_twin, *(mapping for _paddr, mapping in self.machine.memory.regions())]
        self.machine.release()
        for mapping in mappings:
            mapping.discard_writes()
        vars(self.space).pop("builder", None)  # the two refer to each other


def moved(link_vaddr: int, delta: int) -> int:
    return (link_vaddr + delta) & U64 if link_vaddr >= START_KERNEL_MAP else link_vaddr
