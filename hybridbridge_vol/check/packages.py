"""What the trusted files say of their own symbols: see `check.tracepoints.Package`."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.function_pointers import Stores
from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.modules.stored_pointers import StoredPointers
from hybridbridge_vol.trust.linked_kernel import LinkedKernel
from hybridbridge_vol.units import U64

_VARIABLE = 512
"""Bytes of a variable that are searched."""


class KernelPackage:
    """The kernel's."""

    def __init__(self, bridge: Bridge, linked: LinkedKernel, stores: Stores) -> None:
        self._bridge = bridge
        self._linked = linked
        self._stores = stores

    def address_of(self, name: str) -> int | None:
        """Where a symbol lies."""
        found = self._bridge.kernel.symbols.get(name)
        return None if found is None else found + self._bridge.layout.shift & U64

    def refers(self, name: str, other: str) -> bool:
        """Whether one variable holds the address of another."""
        symbols, text = self._bridge.kernel.symbols, self._bridge.kernel.text_link_vaddr
        start, target = symbols.get(name), symbols.get(other)
        if start is None or target is None:
            return False
        end = min(symbols.next_address(start) or start, start + _VARIABLE)
        words = (bytes(self._linked.flat[at - text : at - text + 8]) for at in range(start, end, 8))
        return target.to_bytes(8, "little") in words

    def registers(self, function_vaddr: int, tracepoint_vaddr: int) -> bool:
        """Whether a function of the kernel refers to both."""
        text = self._bridge.layout.text_vaddr
        return self._stores.passes(function_vaddr - text, tracepoint_vaddr - text)


class ModulePackage:
    """A module's."""

    def __init__(self, name: str, modules: AllModules, stored: StoredPointers) -> None:
        self._names = modules.names(name)
        self._tables = stored.tables(name)
        self._stored = stored

    def address_of(self, name: str) -> int | None:
        """Where a symbol lies."""
        return self._names.address_of(name)

    def refers(self, name: str, other: str) -> bool:
        """Whether one variable holds the address of another."""
        return self._tables.refers(name, other)

    def registers(self, function_vaddr: int, tracepoint_vaddr: int) -> bool:
        """Whether code of the module refers to both."""
        return self._stored.explains(function_vaddr, tracepoint_vaddr)
