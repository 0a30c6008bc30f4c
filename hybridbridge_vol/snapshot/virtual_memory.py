"""The virtual memory of a snapshot's kernel: the image and the kernel's layout in it, together."""

from __future__ import annotations

from hybridbridge_vol.machine.paging import LARGE_SHIFT, PAGE_SHIFT, UNCACHED, Translation
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.blank_pages import WHY, ZERO_PAGE, BlankPages
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout, UnreadableSnapshot
from hybridbridge_vol.units import PAGE_SIZE

_LARGE_SIZE = 1 << LARGE_SHIFT
_MAX_LARGE = 1 << 14
"""Of 2 MiB, that are kept: 32 GiB of them."""


class UnreadableVirtual(Exception):
    """The image does not hold what lies at a virtual address of the snapshot, or nothing does."""

    def __init__(self, vaddr: int, why: str = "") -> None:
        where = f"virtual address {vaddr:#x}"
        super().__init__(f"{where}: {why}" if why else f"the image does not hold {where}")
        self.vaddr = vaddr


class VirtualMemory:
    """See the module's text. Offsets count from `_text`. `blank` says which pages of zeros count as
    missing (None: none)."""

    def __init__(self, image: PhysicalImage, layout: SnapshotLayout, blank: BlankPages | None = None) -> None:
        self.image = image
        self.layout = layout
        self.blank = blank
        self._large: dict[int, Translation] = {}
        """By the number of 2 MiB of addresses: where they begin, if they lie in one large page."""

    def translate(self, vaddr: int) -> Translation | None:
        """Walk the snapshot's own page tables, which may be forged; None if they lead nowhere. Large pages,
        of which most of the direct map is made, are kept, as the tables are."""
        number, offset = vaddr >> LARGE_SHIFT, vaddr & _LARGE_SIZE - 1
        large = self._large.get(number)
        if large is not None:
            return Translation(large.paddr + offset, large.entry, large.shift)
        found = self.layout.translate(self.image, vaddr)
        if found is not None and found.shift > PAGE_SHIFT and len(self._large) < _MAX_LARGE:
            self._large[number] = found._replace(paddr=found.paddr - offset)
        return found

    def why_unreadable(self, vaddr: int) -> str | None:
        """Why nothing can be read at a virtual address, in a few words; None if something can."""
        offset = vaddr - self.layout.text_vaddr
        paddr = self.layout.text_paddr + offset
        if not 0 <= offset < self.layout.size:
            try:
                place = self.layout.walk(self.image, vaddr)
            except UnreadableSnapshot as error:
                return f"its page table is not in the image: {self.image.why_absent(error.paddr)}"
            if place is None:
                return "a pointer of the snapshot's leads to where it has no memory"
            paddr = place.paddr
            if place.entry & UNCACHED and self.image.run_at(paddr) is None:
                return "memory of a device, which no image has"
        if self.image.read_available(paddr, 1) is not None:
            return WHY if self.is_blank(paddr) else None
        return f"not in the image: {self.image.why_absent(paddr)}"

    def is_blank(self, paddr: int) -> bool:
        """Whether the page of a physical address is zeros, and the kernel has data there."""
        page = paddr & -PAGE_SIZE
        return (
            self.blank is not None
            and self.image.read_available(page, PAGE_SIZE) == ZERO_PAGE
            and (self.blank.holds(page) or self.blank.holds_read_only(page))
        )

    def static(self, offset: int, size: int) -> bytes | None:
        """`size` bytes of the kernel image, read where it was found, not by page tables; None if any is
        absent."""
        return self.image.read_available(self.layout.text_paddr + offset, size)

    def static_number(self, offset: int, size: int, signed: bool = False) -> int | None:
        """A little-endian number of the kernel image; None if it is absent."""
        data = self.static(offset, size)
        return None if data is None else int.from_bytes(data, "little", signed=signed)

    def read_u64(self, vaddr: int) -> int:
        """The 64-bit word at a virtual address; UnreadableVirtual."""
        offset = vaddr - self.layout.text_vaddr
        if 0 <= offset < self.layout.size:
            data = self.static(offset, 8)
        else:
            place = self.translate(vaddr)
            data = None if place is None else self.image.read_available(place.paddr, 8)
        if data is None:
            raise UnreadableVirtual(vaddr)
        return int.from_bytes(data, "little")

    def read_padded(self, vaddr: int, size: int) -> bytes:
        """`size` bytes at a virtual address; what the image does not hold reads as zeros, page by page."""
        parts = []
        end = vaddr + size
        while vaddr < end:
            step = min(end - vaddr, PAGE_SIZE - vaddr % PAGE_SIZE)
            place = self.translate(vaddr)
            data = None if place is None else self.image.read_available(place.paddr, step)
            parts.append(bytes(step) if data is None else data)
            vaddr += step
        return b"".join(parts)
