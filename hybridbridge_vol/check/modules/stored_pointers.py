"""Pointers that a module may lawfully have stored in its data, in the kernel's or in another module's.

A pointer is explained by the trusted code that stores it: code of a module that refers to the variable and to
the new value, or code that copies it from a slot of a structure, when a module's file has the value in the
same slot of one of its own (as KVM gives the kernel its callbacks, and `kvm_amd` gives its operations to
`kvm`).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.cached_method import cached_method
from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.modules.code_references import CodeReferences
from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.check.modules.tables_of_file import FileTables

_AROUND = 8192
"""Bytes of code: a compiler keeps the address of a function that a function gives to many keys."""


class StoredPointers:
    """See the module's text. `nothing`: where the snapshot has `__static_call_return0`."""

    def __init__(self, modules: AllModules, nothing: list[int]) -> None:
        self._modules = modules
        self._nothing = nothing

    @cached_method
    def _code(self, name: str) -> CodeReferences:
        modules = self._modules
        return CodeReferences(modules.by_name[name], modules.file(name), modules.references(name))

    @cached_method
    def tables(self, name: str) -> FileTables:
        """The structures in a module's file."""
        modules = self._modules
        return FileTables(modules.by_name[name], modules.file(name), modules.references(name))

    def explains(self, value: int, variable_vaddr: int) -> bool:
        """Whether the module that a value lies in, or the one that a variable lies in, has code that stores
        the one in the other."""
        return any(
            self._code(placed.name).stores(value, variable_vaddr)
            or self._code(placed.name).stores_by_pointer(value, variable_vaddr)
            or self._copies(placed, value, variable_vaddr)
            for placed in self._owners(value, variable_vaddr)
        )

    def clears(self, linked: int, variable_vaddr: int) -> bool:
        """Whether a pointer was set to zero by code of the module that it leads to as linked, or of the one
        that it lies in, which clears this slot of structures that it is given (as
        ata_finalize_port_ops(), drivers/ata/libata-core.c, does when a driver's operations have inherited
        others)."""
        owner = self._modules.at(variable_vaddr) or self._modules.with_data(variable_vaddr)
        slot = None if owner is None else self.tables(owner.name).slot(variable_vaddr)
        return slot is not None and any(
            self._code(placed.name).clears(slot) for placed in self._owners(linked, variable_vaddr)
        )

    def answers_nothing(self, value: int, variable_vaddr: int) -> bool:
        """Whether code that refers to the key of a static call refers, somewhere around, to the kernel's
        function that does nothing: what it gives to the keys whose slots are empty."""
        return value in self._nothing and any(
            self._code(placed.name).stores(value, variable_vaddr, _AROUND)
            for placed in self._owners(variable_vaddr)
        )

    def is_in_slot(self, value: int, offset: int) -> bool:
        """Whether the file of the module that a function lies in has its address at an offset of one of its
        structures."""
        owner = self._modules.at(value)
        return owner is not None and self.tables(owner.name).has(value, offset)

    def _owners(self, *vaddrs: int) -> Iterator[PlacedModule]:
        owners = (self._modules.at(vaddr) or self._modules.with_data(vaddr) for vaddr in vaddrs)
        yield from dict.fromkeys(owner for owner in owners if owner is not None)

    def _copies(self, placed: PlacedModule, value: int, variable_vaddr: int) -> bool:
        """Whether code that hands over the variable loads what to store there from a slot of a structure, and
        the value is in this slot of such a structure in its own module's file."""
        tables = self.tables(placed.name)
        for vaddr, offset in self._code(placed.name).sources(variable_vaddr):
            slot = offset if vaddr is None else tables.slot(vaddr)
            if slot is not None and self.is_in_slot(value, slot):
                return True
        return False
