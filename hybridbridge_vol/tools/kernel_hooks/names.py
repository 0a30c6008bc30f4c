"""What lies at an address of the snapshot, by the trusted kernel's and modules' symbols."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.procfs.system import Module


class KernelNames:
    """`listed` are the modules that the snapshot's kernel lists; `lost` is why these are not all."""

    def __init__(self, bridge: Bridge, listed: Iterable[Module], lost: str = "") -> None:
        self.bridge = bridge
        self.listed = list(listed)
        self.lost = lost
        self._symbols = bridge.kernel.symbols

    @cached_property
    def modules(self) -> AllModules:
        """The listed modules that the trusted package has."""
        return AllModules(self.bridge, self.listed)

    @cached_property
    def _places(self) -> Places:
        return Places(
            self.bridge,
            self.listed,
            self.modules.part_at,
            self.modules.by_name,
            are_all=not self.lost,
        )

    def kernel_offset(self, vaddr: int) -> int | None:
        """The offset of an address from `_text`, if it is in the kernel image."""
        offset = vaddr - self.bridge.layout.text_vaddr
        return offset if 0 <= offset < self.bridge.layout.size else None

    def in_kernel(self, vaddr: int) -> tuple[str, int] | None:
        """The symbol of the kernel that an address is at or behind, and the distance."""
        offset = self.kernel_offset(vaddr)
        return None if offset is None else self._symbols.lookup(self.bridge.kernel.text_link_vaddr + offset)

    def function(self, vaddr: int) -> str:
        """The name of what begins at an address, in the kernel; otherwise empty."""
        found = self.in_kernel(vaddr)
        return found[0] if found is not None and not found[1] else ""

    def place(self, vaddr: int) -> str:
        """An address in words: `name+0x10`, or where it is."""
        found = self.in_kernel(vaddr)
        if found is not None:
            return found[0] + (f"+{found[1]:#x}" if found[1] else "")
        placed = self.modules.at(vaddr)
        if placed is not None:
            return self.modules.names(placed.name).describe(vaddr - placed.text_vaddr)
        return self._places.describe(vaddr)
