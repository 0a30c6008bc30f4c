"""Bytes of a process's memory by address, page by page, each read once; of pages that a process never touched
those of the mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from errno import EFAULT

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.maps import Mapping
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.user_memory.code_pages import file_page
from hybridbridge_vol.units import PAGE_SIZE

_AT_ONCE = 64 << 10
MAX_KEPT = 16 << 20
"""Bytes of one process's memory that are kept."""
MAX_FAILURES = 256
"""Pages of one process that may be missing before nothing more is asked."""


class MemoryReader:
    """The memory of one process."""

    def __init__(self, files: Files, pid: int, mappings: Sequence[Mapping]) -> None:
        self._files = files
        self._pid = pid
        self._mappings = mappings
        self._pages: dict[int, bytes] = {}
        self._missing: dict[int, str] = {}

    def read(self, vaddr: int, size: int) -> bytes:
        """`size` bytes. OSError that says why if any of them cannot be had."""
        parts = []
        while size > 0:
            start = vaddr % PAGE_SIZE
            part = self._page(vaddr - start)[start : start + size]
            parts.append(part)
            vaddr += len(part)
            size -= len(part)
        return b"".join(parts)

    def word(self, vaddr: int) -> int:
        """A 64-bit word. OSError."""
        return int.from_bytes(self.read(vaddr, 8), "little")

    def string(self, vaddr: int, limit: int) -> bytes:
        """The bytes up to a NUL, `limit` at most. OSError."""
        found = b""
        while len(found) < limit:
            room = PAGE_SIZE - (vaddr + len(found)) % PAGE_SIZE
            part, end, _rest = self.read(vaddr + len(found), min(room, limit - len(found))).partition(b"\0")
            found += part
            if end:
                break
        return found

    def mapping_at(self, vaddr: int) -> Mapping | None:
        """The mapping that holds an address."""
        return next((it for it in self._mappings if it.start_vaddr <= vaddr < it.end_vaddr), None)

    def _page(self, vaddr: int) -> bytes:
        if vaddr in self._pages:
            return self._pages[vaddr]
        if vaddr not in self._missing:
            self._ask(vaddr)
        if vaddr in self._pages:
            return self._pages[vaddr]
        raise OSError(EFAULT, self._missing.get(vaddr, "not read"), f"/proc/{self._pid}/mem")

    def _ask(self, vaddr: int) -> None:
        mapping = self.mapping_at(vaddr)
        if mapping is None:
            self._missing[vaddr] = f"{vaddr:#x} is not mapped"
            return
        if len(self._missing) > MAX_FAILURES:
            self._missing[vaddr] = "given up: too many pages are missing"
            return
        if len(self._pages) * PAGE_SIZE > MAX_KEPT:
            self._pages.clear()
        for size in (min(_AT_ONCE, mapping.end_vaddr - vaddr), PAGE_SIZE):
            try:
                data = self._files.read_at(f"/proc/{self._pid}/mem", vaddr, size)
            except UNREADABLE as error:
                self._missing[vaddr] = why(f"{vaddr:#x}", error).reason
                continue
            for start in range(0, len(data) & -PAGE_SIZE, PAGE_SIZE):
                self._pages[vaddr + start] = data[start : start + PAGE_SIZE]
            return
        self._ask_file(vaddr, mapping)

    def _ask_file(self, vaddr: int, mapping: Mapping) -> None:
        """What a page would be that a process maps and never touched."""
        if not mapping.inode:
            return
        link = f"/proc/{self._pid}/map_files/{mapping.start_vaddr:x}-{mapping.end_vaddr:x}"
        try:
            page = file_page(self._files, link, mapping.offset + vaddr - mapping.start_vaddr)
        except UNREADABLE as error:
            page = why(link, error).reason
        if isinstance(page, bytes):
            self._pages[vaddr] = page
        else:
            self._missing[vaddr] = f"{vaddr:#x}: {page}"
