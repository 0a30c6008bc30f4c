"""Pointers in the kernel's data that are not as linked: hooks, unless what trusted code stores there explains
them."""

from __future__ import annotations

from functools import cached_property

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.function_pointers import Range, Stores, inside, sites_in
from hybridbridge_vol.check.instructions import Reader, Thunks
from hybridbridge_vol.check.kernel_context import KernelAround
from hybridbridge_vol.check.modules.stored_pointers import StoredPointers
from hybridbridge_vol.check.packages import KernelPackage
from hybridbridge_vol.check.tracepoints import PREFIX, is_recorded
from hybridbridge_vol.trust.linked_kernel import LinkedKernel
from hybridbridge_vol.units import START_KERNEL_MAP, U64

_DESCRIPTION_SIZE = 128
"""Bytes of a `struct hypervisor_x86` that are looked at; it has 104 since 6.1."""


class ExplainedPointers:
    """Of one snapshot. `places` are the ranges of the kernel's code and constants. Offsets count from
    `_text`."""

    def __init__(
        self,
        bridge: Bridge,
        linked: LinkedKernel,
        places: list[Range],
        around: KernelAround,
        stored: StoredPointers,
    ) -> None:
        self._bridge = bridge
        self._linked = linked
        self._places = places
        self._around = around
        self._stored = stored
        self._symbols = bridge.kernel.symbols
        self._text = bridge.kernel.text_link_vaddr
        self._text_vaddr = bridge.layout.text_vaddr

    def behind(self, offset: int) -> int:
        """The offset of the next symbol."""
        return (self._symbols.next_address(self._text + offset) or self._text) - self._text

    def explains(self, after: int, site: int) -> bool:
        """Whether the trusted kernel's boot stored the value `after` in the pointer at `site`, or the trusted
        kernel or a module has code that does."""
        start = self._text - START_KERNEL_MAP + site
        at_home = int.from_bytes(self._bridge.ram.view[start : start + 8], "little")
        if at_home >= START_KERNEL_MAP:
            at_home = at_home - self._bridge.home_delta + self._bridge.layout.shift & U64
        target = after - self._text_vaddr
        if self._is_recorded(site, after):
            return True
        if after == at_home or target in self._processors.get(site, ()):
            return True
        if inside(site, self._platform) and target in self._hypervisors_functions:
            return True
        if not inside(target, self._places):
            return self._is_explained_by_modules(after, site)
        if self._stores.stores(target, site) or self._stores.hands_over(target, site):
            return True
        if self._is_static_call(site):
            return self._stores.passes(target, site)
        return inside(site, self._apic_drivers) and self._stores.refers_to_both(target, self._apic_setters)

    def _is_recorded(self, site: int, function_vaddr: int) -> bool:
        """Whether a pointer is a tracepoint's, and the kernel just records its events."""
        found = self._symbols.lookup(self._text + site)
        if found is None or not found[0].startswith(PREFIX) or found[1]:
            return False
        package = KernelPackage(self._bridge, self._linked, self._stores)
        function = self._around.function(function_vaddr)
        return is_recorded(found[0], function_vaddr, function, package, self._around.word)

    def _is_explained_by_modules(self, vaddr: int, site: int) -> bool:
        """Whether a module stores a pointer to something of its own, or hands it to the kernel."""
        return self._stored.explains(vaddr, self._text_vaddr + site) or any(
            self._stored.is_in_slot(vaddr, slot) for slot in self._stores.slots_copied_to(site)
        )

    def _is_static_call(self, site: int) -> bool:
        """Whether a pointer is the key of a static call, which `__static_call_update` writes
        (kernel/static_call_inline.c)."""
        found = self._symbols.lookup(self._text + site)
        return found is not None and found[0].startswith("__SCK__") and found[1] == 0

    @cached_property
    def _processors(self) -> dict[int, frozenset[int]]:
        """`this_cpu` points to one of a list in initialisation data (early_cpu_init,
        arch/x86/kernel/cpu/common.c)."""
        variable, start, end = (
            self._symbols.get(name) for name in ("this_cpu", "__x86_cpu_dev_start", "__x86_cpu_dev_end")
        )
        if variable is None or start is None or end is None:
            return {}
        return {variable - self._text: frozenset(self._words(start - self._text, end - self._text))}

    @cached_property
    def _platform(self) -> list[Range]:
        """What a kernel that finds itself under a hypervisor gets that one's functions in
        (`init_hypervisor_platform`, arch/x86/kernel/cpu/hypervisor.c)."""
        return self._variables("x86_platform", "x86_init")

    @cached_property
    def _hypervisors_functions(self) -> frozenset[int]:
        """The functions that the descriptions of hypervisors name: what lies behind the pointers in the list
        `hypervisors` of that file."""
        start = self._symbols.get("hypervisors")
        if start is None:
            return frozenset()
        found: set[int] = set()
        for description in self._words(start - self._text, self.behind(start - self._text)):
            found.update(self._words(description, description + _DESCRIPTION_SIZE))
        return frozenset(found)

    def _variables(self, *names: str) -> list[Range]:
        """Where those of these symbols lie that the kernel has."""
        places = (self._symbols.get(name) for name in names)
        return [
            (place - self._text, self.behind(place - self._text)) for place in places if place is not None
        ]

    def _words(self, start: int, end: int) -> list[int]:
        """What the pointers lead to that were linked into a part of the kernel's data."""
        flat = self._linked.flat
        return [
            int.from_bytes(flat[site : site + 8], "little") - self._text
            for site in sites_in(self._linked.abs64, [(start, end)])
        ]

    @cached_property
    def _apic_drivers(self) -> list[Range]:
        """The drivers of interrupt controllers. A guest of a hypervisor stores functions of its own in all of
        them, or in the one in use, through a pointer (arch/x86/kernel/apic/init.c and apic.c, kvm.c);
        `apic_noop` is in use if all are disabled."""
        start, end = self._symbols.get("__apicdrivers"), self._symbols.get("__apicdrivers_end")
        if start is None or end is None:
            return []
        drivers = self._words(start - self._text, end - self._text)
        drivers += [vaddr - self._text for vaddr in [self._symbols.get("apic_noop")] if vaddr is not None]
        return [(driver, self.behind(driver)) for driver in drivers]

    @cached_property
    def _apic_setters(self) -> list[Range]:
        """What a function that does so refers to: the driver in use, the table of overriding functions, or
        the function that sets them."""
        return self._variables("apic", "__x86_apic_override", "apic_set_eoi_write")

    @cached_property
    def _stores(self) -> Stores:
        thunks = Thunks({}, frozenset())
        return Stores(self._linked.flat, self._linked.abs32, self._symbols, self._text, Reader(thunks))
