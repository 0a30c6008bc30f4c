"""The memory of an emulated program: which areas it has, with which protection, in Unicorn."""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from unicorn import Uc

from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.units import PAGE_SIZE

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
"""As for mmap(2); Unicorn's are the same."""
MAX_MEMORY = 2 << 30
"""Bytes of all areas together."""
MAX_AREAS = 4096
"""Areas; Linux has a limit of 65,530 (vm.max_map_count)."""
_REGION = 4 << 20
"""Bytes of a region of Unicorn's, which copies one that is split."""
FIRST = 0x10000
"""The first address that may be mapped (vm.mmap_min_addr)."""
TOP = 0x7FFF_FFFF_F000
"""Behind the last address of a program (TASK_SIZE_MAX, arch/x86/include/asm/page_64_types.h)."""
STACK_SIZE = 8 << 20
_GAP = 1 << 20
"""Bytes between the stack and what is mapped below."""
MAPPINGS_END = TOP - STACK_SIZE - _GAP
"""Mappings grow downward from here."""


class Area(NamedTuple):
    """Neighbouring pages of the same protection."""

    start: int
    end: int
    protection: int


class AddressSpace:
    """All areas, in the order of their addresses. Addresses and sizes are those of pages but in `read` and
    `write`. All methods raise OSError with the errno of the system call that they serve."""

    def __init__(self, uc: Uc) -> None:
        self._uc = uc
        self._areas: list[Area] = []
        self._size = 0

    def __iter__(self) -> Iterator[Area]:
        return iter(self._areas)

    # --- what there is ------------------------------------------------------------------------------------

    def _at(self, vaddr: int) -> int:
        """The index of the first area that ends behind an address."""
        index = bisect_right(self._areas, vaddr, key=lambda area: area.start) - 1
        return index if index >= 0 and self._areas[index].end > vaddr else index + 1

    def extent(self, vaddr: int, size: int, protection: int = 0) -> int:
        """How many bytes from an address on are mapped with all of a protection."""
        at, end, index = vaddr, vaddr + size, self._at(vaddr)
        while at < end and index < len(self._areas):
            area = self._areas[index]
            if area.start > at or area.protection & protection != protection:
                break
            at, index = area.end, index + 1
        return min(at, end) - vaddr

    def is_free(self, vaddr: int, size: int) -> bool:
        """Whether nothing is mapped there, and something could be."""
        if vaddr < FIRST or vaddr + size > TOP:
            return False
        index = self._at(vaddr)
        return index == len(self._areas) or self._areas[index].start >= vaddr + size

    def find_free(self, size: int, below: int = MAPPINGS_END) -> int:
        """The highest free place of a size that ends at `below`, or before. ENOMEM if there is none."""
        end = below
        for area in reversed(self._areas):
            if area.start >= end:
                continue
            if end - area.end >= size:
                break
            end = area.start
        if end - size < FIRST:
            raise failed(errno.ENOMEM)
        return end - size

    # --- changing it --------------------------------------------------------------------------------------

    def map(self, vaddr: int, size: int, protection: int) -> None:
        """Map zeros there, instead of what was mapped. ENOMEM, EINVAL."""
        if not size or vaddr % PAGE_SIZE or size % PAGE_SIZE:
            raise failed(errno.EINVAL)
        if vaddr < FIRST or vaddr + size > TOP:
            raise failed(errno.ENOMEM)
        self.unmap(vaddr, size)
        if self._size + size > MAX_MEMORY or len(self._areas) >= MAX_AREAS:
            raise failed(errno.ENOMEM)
        for start in range(vaddr, vaddr + size, _REGION):
            self._uc.mem_map(start, min(_REGION, vaddr + size - start), _in_emulator(protection))
        self._size += size
        self._insert(Area(vaddr, vaddr + size, protection))

    def unmap(self, vaddr: int, size: int) -> None:
        """Unmap what is mapped there."""
        for area in self._cut(vaddr, vaddr + size):
            self._uc.mem_unmap(area.start, area.end - area.start)
            self._size -= area.end - area.start

    def protect(self, vaddr: int, size: int, protection: int) -> None:
        """ENOMEM if not all of it is mapped."""
        if self.extent(vaddr, size) != size:
            raise failed(errno.ENOMEM)
        if len(self._areas) + 2 > MAX_AREAS:
            raise failed(errno.ENOMEM)
        for area in self._cut(vaddr, vaddr + size):
            if _in_emulator(area.protection) != _in_emulator(protection):
                self._uc.mem_protect(area.start, area.end - area.start, _in_emulator(protection))
            self._insert(area._replace(protection=protection))

    def clear(self, vaddr: int, size: int) -> None:
        """Make zeros of what is mapped there, and give its memory back."""
        for area in list(self._between(vaddr, vaddr + size)):
            self.map(area.start, area.end - area.start, area.protection)

    def _between(self, start: int, end: int) -> Iterator[Area]:
        index = self._at(start)
        while index < len(self._areas) and self._areas[index].start < end:
            area = self._areas[index]
            yield area._replace(start=max(area.start, start), end=min(area.end, end))
            index += 1

    def _cut(self, start: int, end: int) -> list[Area]:
        """Take out of the list, and return, what lies between."""
        taken = list(self._between(start, end))
        if not taken:
            return taken
        first = self._at(start)
        before, after = self._areas[first], self._areas[first + len(taken) - 1]
        kept = [before._replace(end=start)] if before.start < start else []
        kept += [after._replace(start=end)] if after.end > end else []
        self._areas[first : first + len(taken)] = kept
        return taken

    def _insert(self, area: Area) -> None:
        index = self._at(area.start)
        if index < len(self._areas) and _join(area, self._areas[index]):
            area = area._replace(end=self._areas.pop(index).end)
        if index and _join(self._areas[index - 1], area):
            index -= 1
            area = area._replace(start=self._areas.pop(index).start)
        self._areas.insert(index, area)

    # --- content ------------------------------------------------------------------------------------------

    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes, as many as can be read up to the first that cannot. EFAULT if there is none."""
        count = self.extent(vaddr, size, PROT_READ)
        if size and not count:
            raise failed(errno.EFAULT)
        return bytes(self._uc.mem_read(vaddr, count)) if count else b""

    def read_exactly(self, vaddr: int, size: int) -> bytes:
        """The same; EFAULT if any of them is missing."""
        if self.extent(vaddr, size, PROT_READ) != size:
            raise failed(errno.EFAULT)
        return bytes(self._uc.mem_read(vaddr, size)) if size else b""

    def write(self, vaddr: int, data: bytes) -> None:
        """EFAULT if it cannot be written as a whole."""
        if self.extent(vaddr, len(data), PROT_WRITE) != len(data):
            raise failed(errno.EFAULT)
        if data:
            self._uc.mem_write(vaddr, data)

    def move(self, vaddr: int, size: int, place: int) -> None:
        """Move the content of one mapping into another, and unmap it."""
        for area in list(self._between(vaddr, vaddr + size)):
            self.fill(place + area.start - vaddr, bytes(self._uc.mem_read(area.start, area.end - area.start)))
        self.unmap(vaddr, size)

    def fill(self, vaddr: int, data: bytes) -> None:
        """Put the content of a new mapping into it, whatever its protection is."""
        if data:
            self._uc.mem_write(vaddr, data)


def _join(one: Area, other: Area) -> bool:
    return one.end == other.start and one.protection == other.protection


def _in_emulator(protection: int) -> int:
    """Of an x86-64 page, what can be written or executed can be read."""
    return protection | PROT_READ if protection & (PROT_WRITE | PROT_EXEC) else protection
