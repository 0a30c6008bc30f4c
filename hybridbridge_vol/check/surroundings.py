"""What the acceptance of a text's patches asks of the kernel around it."""

from __future__ import annotations

from typing import Protocol


class Surroundings(Protocol):
    """The kernel around a text, by the snapshot's virtual addresses."""

    def word(self, vaddr: int) -> int | None:
        """A 64-bit variable of the snapshot's; None if the image does not hold it."""

    def address(self, name: str) -> int | None:
        """Where a symbol of the kernel lies in the snapshot."""

    def function(self, vaddr: int) -> str | None:
        """The trusted function that begins at an address; None if none does."""

    def body(self, vaddr: int) -> bytes:
        """The first bytes of a function of the kernel, as expected."""

    def is_paravirt_slot(self, vaddr: int) -> bool:
        """Whether a word is one of `pv_ops`."""

    def is_slab_cache(self, vaddr: int) -> bool:
        """Whether a cache of the snapshot's slab allocator lies at an address."""

    def is_allocated(self, vaddr: int) -> bool:
        """Whether an address lies in memory that the snapshot's kernel allocated, which is never code."""
