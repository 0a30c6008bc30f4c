"""What lies at an address of the snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.machine.paging import LARGE_SHIFT
from hybridbridge_vol.units import PAGE_SIZE, U64

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory

_LARGEST_UNMAPPED = 64 << 20
"""Bytes: modules lie close together, so that the search for them ends behind the first larger unmapped
range."""
_LONGEST_SYMBOL = 1024
MAX_EXPECTED = 1 << 16
"""Names that are kept: those of 256 MiB of modules; page tables that are forged may map more."""


class SnapshotAddresses:
    """Implements `guest.kernel.Addresses`."""

    def __init__(self, proxy: ProxyCalls, may_ask_together: Callable[[], bool]) -> None:
        self._proxy = proxy
        self._may_ask_together = may_ask_together
        self._symbols: dict[int, str] = {}

    def in_image(self, paddr: int, size: int) -> bool:
        """Whether the image holds these bytes of physical memory."""
        run = self._proxy.bridge.image.run_at(paddr)
        return run is not None and paddr + size <= run.paddr + run.size

    @property
    def has_modules(self) -> bool:
        """Whether the kernel can have modules (CONFIG_MODULES): it has a list of them
        (kernel/module/main.c)."""
        return "modules" in self._proxy.bridge.kernel.symbols

    @property
    def modules_area(self) -> range:
        """The virtual addresses that the kernel's modules may have."""
        return self._proxy.bridge.layout.modules

    def module_pages(self) -> Iterator[int]:
        """Virtual addresses of the pages that are mapped in the kernel's area for modules."""
        bridge, unmapped = self._proxy.bridge, 0
        for vaddr in self.modules_area[:: 1 << LARGE_SHIFT]:
            for page, mapped in bridge.layout.mapped(bridge.image, vaddr):
                if mapped:
                    unmapped = 0
                    yield page
                elif (unmapped := unmapped + PAGE_SIZE) > _LARGEST_UNMAPPED:
                    return

    def symbol(self, vaddr: int) -> str:
        """An address as the kernel's sprint_symbol() (kernel/kallsyms.c) prints it."""
        expected = self._symbols.get(vaddr)
        if expected is not None:
            return expected
        size = self._proxy.function("sprint_symbol", self._proxy.buffer(), vaddr)
        return os.fsdecode(self._proxy.answer("sprint_symbol", min(max(size, 0), _LONGEST_SYMBOL)))

    def expect(self, vaddrs: Iterable[int]) -> None:
        """See `guest.kernel.Addresses`."""
        from hybridbridge_vol.bridge.run import symbol_loop  # few tools ask it

        waiting = (vaddr for vaddr in vaddrs if vaddr not in self._symbols)
        while part := list(islice(waiting, symbol_loop.MOST_ADDRESSES)):
            if len(self._symbols) >= MAX_EXPECTED or not self._may_ask_together():
                return
            try:
                # alone, so that its code is proven: a program that meets unproven code is rolled back
                self.symbol(part[0])
                function = self._proxy.bridge.snapshot(symbol_loop.FUNCTION)
            except (CallRolledBack, LookupError):
                return
            names = symbol_loop.names_of(self._proxy.program_memory, function, part)
            if names is not None:
                self._symbols |= zip(part, map(os.fsdecode, names), strict=True)

    def modules_in_memory(self) -> list[str]:
        """The names of the modules whose `struct module` lies in the area for modules, listed or not."""
        from hybridbridge_vol.bridge.objects.module_structs import module_structs

        self._typed_memory.begin()
        return list(module_structs(self._typed_memory, self.module_pages()))

    def vmalloc_areas(self) -> list[tuple[int, int, str]]:
        """Address, bytes and the function that asked for it, of each area of vmalloc."""
        from hybridbridge_vol.bridge.objects.list_ends import Broken
        from hybridbridge_vol.bridge.objects.vmap_areas import asked_by, vmap_areas

        self._typed_memory.begin()
        try:
            areas = list(vmap_areas(self._typed_memory))
        except Broken as error:
            raise LookupError(str(error)) from None
        return [(area.vaddr, area.size, asked_by(self._proxy.bridge, area)) for area in areas]

    @cached_property
    def _typed_memory(self) -> TypedMemory:
        """Made once: all of the kernel's types are looked through for it."""
        from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory

        return TypedMemory(self._proxy.bridge)

    def interrupt(self, number: int) -> int:
        """The address of an interrupt's `struct irq_desc`, by the kernel's irq_to_desc()
        (kernel/irq/irqdesc.c: a radix tree before 6.5, a maple tree since); 0 if there is none."""
        return self._proxy.function("irq_to_desc", number) & U64
