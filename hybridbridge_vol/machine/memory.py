"""Guest-physical memory: host mappings that the emulators and Python share.

A `HostMapping` is one `mmap` of this process. `PhysicalMemory` places mappings at guest-physical addresses
and reads and writes them from Python; an emulator maps the very same host bytes, so nothing is ever copied.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from bisect import bisect_right

from hybridbridge_vol.units import PAGE_SIZE

_WORD = struct.Struct("<Q")
_MAP_NORESERVE = 0x4000  # Linux, asm-generic/mman-common.h; not in every Python's mmap module


def page_up(size: int) -> int:
    """`size` in bytes, rounded up to whole pages."""
    return -(-size // PAGE_SIZE) * PAGE_SIZE


class HostMapping:
    """`size` bytes of host memory, private to this process.

    `address` is the host address that the emulator maps; `view` is the same bytes for Python.
    """

    def __init__(self, mapping: mmap.mmap, size: int) -> None:
        self._mmap = mapping
        self.size = size
        self.view = memoryview(mapping)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))

    @classmethod
    def anonymous(cls, size: int) -> HostMapping:
        """Zeroed memory that takes room only where it is touched."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        return cls(mmap.mmap(-1, size, flags=flags), size)

    @classmethod
    def private_file(cls, fileno: int, offset: int, size: int) -> HostMapping:
        """A slice of a file, copy-on-write (`MAP_PRIVATE`): writes stay here and never reach the file.

        `offset` is a file offset, a multiple of the page size; the slice must lie inside the file, up to the
        end of its last page.
        """
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
        prot = mmap.PROT_READ | mmap.PROT_WRITE
        return cls(mmap.mmap(fileno, size, flags=flags, prot=prot, offset=offset), size)

    def discard_writes(self) -> None:
        """Discard every private page: a file slice shows the file again, anonymous memory is zero again
        (`MADV_DONTNEED`, madvise(2))."""
        self._mmap.madvise(mmap.MADV_DONTNEED)


class UnmappedPhysical(Exception):
    """An access to a guest-physical address where no memory is."""

    def __init__(self, paddr: int) -> None:
        super().__init__(f"no memory at physical address {paddr:#x}")
        self.paddr = paddr


class PhysicalMemory:
    """Disjoint host mappings at guest-physical addresses."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: list[tuple[int, HostMapping]] = []

    def place(self, paddr: int, mapping: HostMapping) -> None:
        """Put `mapping` at `paddr` (page aligned, not overlapping what is there)."""
        index = bisect_right(self._starts, paddr)
        self._starts.insert(index, paddr)
        self._regions.insert(index, (paddr, mapping))

    def regions(self) -> list[tuple[int, HostMapping]]:
        """All `(paddr, mapping)` pairs in address order."""
        return list(self._regions)

    def _locate(self, paddr: int, size: int) -> tuple[memoryview, int]:
        index = bisect_right(self._starts, paddr) - 1
        if index >= 0:
            start, mapping = self._regions[index]
            offset = paddr - start
            if offset + size <= mapping.size:
                return mapping.view, offset
        raise UnmappedPhysical(paddr)

    def around(self, paddr: int, size: int, more: int) -> memoryview:
        """`size` bytes at `paddr` and `more` on each side, as far as they lie in one mapping; they can be
        written. `UnmappedPhysical`."""
        view, offset = self._locate(paddr, 1)
        return view[max(offset - more, 0) : offset + size + more]

    def read(self, paddr: int, size: int) -> bytes:
        """`size` bytes at `paddr`, from within one mapping; else `UnmappedPhysical`."""
        view, offset = self._locate(paddr, size)
        return bytes(view[offset : offset + size])

    def write(self, paddr: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `paddr`, within one mapping; else `UnmappedPhysical`."""
        view, offset = self._locate(paddr, len(data))
        view[offset : offset + len(data)] = data

    def read_u64(self, paddr: int) -> int:
        """The little-endian 64-bit word at `paddr`."""
        word: int = _WORD.unpack_from(*self._locate(paddr, 8))[0]
        return word

    def write_u64(self, paddr: int, value: int) -> None:
        """Store a little-endian 64-bit word at `paddr`."""
        _WORD.pack_into(*self._locate(paddr, 8), value)
