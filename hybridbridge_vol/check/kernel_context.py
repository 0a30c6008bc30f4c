"""The snapshot's kernel around a compared text: its variables, by the trusted kernel's symbols."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.call_checks import CallChecks, Templates
from hybridbridge_vol.check.call_depth import Counting
from hybridbridge_vol.check.instructions import Reader, Thunks
from hybridbridge_vol.snapshot.blank_pages import ZERO_PAGE
from hybridbridge_vol.units import PAGE_SIZE, U64

_INLINED = 16
"""Bytes of a function that may replace a call of it."""
_MAX_CACHES = 10000


class KernelAround:
    """See `check.surroundings.Surroundings`. `expected` is the kernel's text as it must be; `module_function`
    gives the function of a module that begins at an address."""

    def __init__(
        self, bridge: Bridge, expected: bytearray, module_function: Callable[[int], str | None]
    ) -> None:
        self._bridge = bridge
        self._image = bridge.image
        self._layout = bridge.layout
        self._kernel = bridge.kernel
        self._expected = expected
        self._module_function = module_function
        self._counts: dict[int, bool] = {}
        self._words: dict[int, int | None] = {}
        self._functions: dict[int, str | None] = {}
        """What was asked for before: the code of many modules refers to the same."""
        self._lacking: set[int] = set()
        self.unread = 0
        """How often a word was asked for that the image lacks; not where the kernel has mapped nothing."""
        self.calls_are_counted = False
        """Whether the kernel's text counts its calls; its modules then do, too."""
        self.call_checks: CallChecks | None = None
        """What the kernel made of its checks of indirect calls; its modules' are alike. None: nothing."""
        self.reader = Reader(Thunks.of(bridge.kernel.symbols, bridge.layout.shift))

    def word(self, vaddr: int) -> int | None:
        """Inside the kernel image from its physical position, elsewhere by the snapshot's page tables."""
        if vaddr not in self._words:
            self._words[vaddr] = self._read_word(vaddr)
        self.unread += vaddr in self._lacking
        return self._words[vaddr]

    def _read_word(self, vaddr: int) -> int | None:
        offset = vaddr - self._layout.text_vaddr
        if 0 <= offset < self._layout.size:
            paddr = self._layout.text_paddr + offset
        else:
            translation = self._layout.translate(self._image, vaddr)
            if translation is None:
                return None
            paddr = translation.paddr
        data = self._image.read_available(paddr, 8)
        if data is None or (not any(data) and self._is_unread(vaddr, paddr)):
            self._lacking.add(vaddr)
            return None
        return int.from_bytes(data, "little")

    def _is_unread(self, vaddr: int, paddr: int) -> bool:
        """Whether a word that is zero lies in a page of zeros that should not be. Outside of the kernel image
        what is asked for is what a pointer leads to: keys of calls, lists of functions; no page of them is
        zeros."""
        if not 0 <= vaddr - self._layout.text_vaddr < self._layout.size:
            return self._image.read_available(paddr & -PAGE_SIZE, PAGE_SIZE) == ZERO_PAGE
        return self._bridge.virtual_memory.is_blank(paddr)

    def address(self, name: str) -> int | None:
        """Of a symbol, in the snapshot."""
        found = self._kernel.symbols.get(name)
        return None if found is None else found + self._layout.shift & U64

    def _lookup(self, vaddr: int) -> tuple[str, int] | None:
        offset = vaddr - self._layout.text_vaddr
        return (
            self._kernel.symbols.lookup(self._kernel.text_link_vaddr + offset)
            if 0 <= offset < self._layout.size
            else None
        )

    def function(self, vaddr: int) -> str | None:
        """Its name, if it begins there; of the kernel or of a module."""
        if vaddr not in self._functions:
            found = self._lookup(vaddr)
            if found is None:
                self._functions[vaddr] = self._module_function(vaddr)
            else:
                self._functions[vaddr] = found[0] if found[1] == 0 else None
        return self._functions[vaddr]

    def body(self, vaddr: int, size: int = _INLINED) -> bytes:
        """As expected."""
        offset = vaddr - self._layout.text_vaddr
        return bytes(self._expected[offset : offset + size])

    @cached_property
    def counting(self) -> Counting | None:
        """How this kernel counts calls, if it can."""
        start = self.address("skl_call_thunk_template")
        template = self._between("skl_call_thunk_template", "skl_call_thunk_tail")
        return None if start is None or template is None else Counting.of(template, start)

    def _between(self, first: str, last: str) -> bytes | None:
        """What lies between two symbols, as expected; None if this kernel lacks one."""
        start, end = self.address(first), self.address(last)
        if start is None or end is None:
            return None
        offset = start - self._layout.text_vaddr
        return bytes(self._expected[offset : offset + end - start])

    @cached_property
    def call_templates(self) -> Templates:
        """What this kernel can put in the place of its checks of indirect calls."""
        return Templates.of(self._between)

    def counts(self, vaddr: int) -> bool:
        """Whether the snapshot has an instruction there that counts the calls of the function behind it.
        (Some functions of the tracer begin with one.)"""
        known = self._counts.get(vaddr)
        if known is None:
            words = self.word(vaddr), self.word(vaddr + 1)
            code = b"".join(
                (word or 0).to_bytes(8, "little")[-at:] for word, at in zip(words, (8, 1), strict=True)
            )
            known = (
                self.counting is not None
                and self.counting.stands_in(code, vaddr)
                and self.function(vaddr) is None
            )
            self._counts[vaddr] = known
        return known

    def is_paravirt_slot(self, vaddr: int) -> bool:
        """Of `pv_ops`, arch/x86/include/asm/paravirt_types.h; in 7.x those of spinlocks are `pv_ops_lock`."""
        found = self._lookup(vaddr)
        return found is not None and found[0] in ("pv_ops", "pv_ops_lock")

    def is_slab_cache(self, vaddr: int) -> bool:
        """One of the snapshot's own list `slab_caches` (mm/slab_common.c)."""
        return vaddr in self._slab_caches

    def is_allocated(self, vaddr: int) -> bool:
        """Aligned, in the direct map or the vmalloc area, and mapped."""
        layout = self._layout
        if vaddr % 8 or not layout.page_offset_base <= vaddr < layout.vmemmap_base:
            return False
        return layout.translate(self._image, vaddr) is not None

    @cached_property
    def _slab_caches(self) -> frozenset[int]:
        """The list node has the same offset in a cache as in the trusted kernel, whose caches are known."""
        head, caches = self.address("slab_caches"), self._bridge.prepared.caches
        if head is None or not caches:
            return frozenset()
        node_at_home = self._bridge.machine.read_u64(self._bridge.home("slab_caches"))
        distance = min(node_at_home - cache for cache in caches if cache <= node_at_home)
        found: set[int] = set()
        node = self.word(head)
        while node and node != head and node - distance not in found and len(found) < _MAX_CACHES:
            found.add(node - distance)
            node = self.word(node)
        return frozenset(found)
