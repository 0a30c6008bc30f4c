"""One function of the kernel compared with the trusted package's, without the rest of the kernel.

The full comparison (`check.integrity`) takes half a second. A function whose first bytes the kernel itself
has patched, and nobody else, needs only the patch sites in it.
"""

from __future__ import annotations

from collections.abc import Callable

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.kernel_context import KernelAround
from hybridbridge_vol.check.patch_tables import read_patch_tables
from hybridbridge_vol.check.patching import Patcher
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.snapshot.kernel_memory import kernel_pieces
from hybridbridge_vol.trust.linked_kernel import LinkedKernel
from hybridbridge_vol.units import PAGE_SIZE

_MOST_ALONE = 4
"""Functions that are compared by themselves: where more of them look changed, as where the returns of most
are patched, the full comparison costs less."""


class FunctionComparison:
    """Of one snapshot. Offsets count from `_text`. `expected` is the kernel as linked, relocated to where the
    snapshot has it; what is accepted is copied into it. `module_function` as for `KernelAround`."""

    def __init__(
        self,
        bridge: Bridge,
        linked: LinkedKernel,
        expected: bytearray,
        module_function: Callable[[int], str | None],
    ) -> None:
        self._bridge = bridge
        self._expected = expected
        self._found = bytearray(len(expected))
        """Nothing but the functions that were compared."""
        self._count = 0
        kernel, around = bridge.kernel, KernelAround(bridge, expected, module_function)
        self._tables = read_patch_tables(linked.flat, kernel.symbols, kernel.text_link_vaddr)
        self._patcher = Patcher(expected, self._found, bridge.layout.text_vaddr, around.reader, around)

    def is_as_patched(self, start: int, end: int) -> bool:
        """Whether all bytes of a function are as linked, or as the kernel's own patching may leave them at
        the sites of its tables. False says nothing: what else the kernel does to its text, and pages that are
        missing or that lie elsewhere, are left to the full comparison."""
        self._count += 1
        code = self._read(start, end) if self._count <= _MOST_ALONE else None
        if code is None:
            return False
        self._found[start:end] = code
        self._patcher.accept(self._tables.within(start, end))
        return self._expected[start:end] == code

    def _read(self, start: int, end: int) -> bytes | None:
        """What the snapshot has there; None if the image lacks a page of it, has it as zeros, or where the
        snapshot's page tables do not lead to the kernel image."""
        if not start < end <= len(self._expected):
            return None
        first, layout = start & -PAGE_SIZE, self._bridge.layout
        found = b""
        for piece in kernel_pieces(self._bridge.image, layout, first, page_up(end)):
            if piece.data is None or piece.paddr != layout.text_paddr + piece.start:
                return None
            found += piece.data
        pages = (found[at : at + PAGE_SIZE] for at in range(0, len(found), PAGE_SIZE))
        return found[start - first : end - first] if all(any(page) for page in pages) else None
