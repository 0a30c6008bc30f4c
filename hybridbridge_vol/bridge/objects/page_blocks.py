"""Pages of an image, several of which are read at once: what slabs hold lies side by side, and a list of it
leads from one page to the next."""

from __future__ import annotations

from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.units import PAGE_SIZE

_BLOCK = 8 * PAGE_SIZE
_MOST_BLOCKS = 64
"""That are kept: 2 MiB."""


class PageBlocks:
    """Addresses are physical."""

    def __init__(self, image: PhysicalImage) -> None:
        self._image = image
        self._blocks: dict[int, bytes] = {}

    def page(self, paddr: int) -> bytes | None:
        """The page that begins at an address; None if any of it is absent."""
        if not self._image.mappable:  # each page of a compressed one costs
            return self._image.read_available(paddr, PAGE_SIZE)
        start = paddr & -_BLOCK
        block = self._blocks.get(start)
        if block is None:
            block = self._image.read_available(start, _BLOCK)
            if block is None:
                return self._image.read_available(paddr, PAGE_SIZE)
            if len(self._blocks) >= _MOST_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[start] = block
        return block[paddr - start : paddr - start + PAGE_SIZE]
