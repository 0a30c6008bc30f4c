"""The snapshot's kernel image as its own page tables show it: what the machine would have executed and
read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout, Tables
from hybridbridge_vol.units import PAGE_SIZE

_LARGE_SIZE = 2 << 20


class Readable(Tables, Protocol):
    """As much of a memory image as this module needs."""

    def read_available(self, paddr: int, size: int) -> bytes | None:
        """`size` bytes at a physical address, None if any of them is absent."""


class Piece(NamedTuple):
    """Pages of the kernel image in a row. `start` and `end` are offsets from `_text`; `paddr` is where the
    page tables lead (None: nowhere); `data` what is there (None: the image does not hold it)."""

    start: int
    end: int
    paddr: int | None
    data: bytes | None


def kernel_pieces(image: Readable, layout: SnapshotLayout, start: int, end: int) -> Iterator[Piece]:
    """The pages from `start` to `end` (offsets from `_text`, multiples of the page size), in order."""
    at = start
    while at < end:
        vaddr = layout.text_vaddr + at
        translation = layout.translate(image, vaddr)
        if translation is None:
            yield Piece(at, at + PAGE_SIZE, None, None)
            at += PAGE_SIZE
            continue
        size = min(end - at, _LARGE_SIZE - vaddr % _LARGE_SIZE) if translation.shift > 12 else PAGE_SIZE
        data = image.read_available(translation.paddr, size)
        if data is None and size > PAGE_SIZE:  # a large page that the image holds in part
            for page in range(0, size, PAGE_SIZE):
                paddr = translation.paddr + page
                yield Piece(at + page, at + page + PAGE_SIZE, paddr, image.read_available(paddr, PAGE_SIZE))
        else:
            yield Piece(at, at + size, translation.paddr, data)
        at += size
