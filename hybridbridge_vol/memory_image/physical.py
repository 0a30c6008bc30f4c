"""An opened memory image: which guest-physical ranges it holds, and reading them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.ranges import Range
from hybridbridge_vol.units import PAGE_SIZE

MAX_TABLES = 1024
"""Pages of page tables that are kept, 4 MiB of them: those of the kernel, and of some processes."""

MIN_IMAGE_SIZE = 2 << 20
"""Smaller than any kernel's text."""

MAX_PADDR = 1 << 46
"""Physical addresses that x86-64 Linux with 4-level paging can map (64 TiB)."""

MAX_RUNS = 4096
"""Ranges a file may list; real ones have fewer than a hundred."""

Reader = Callable[[int, int], bytes]
"""(physical address, size) -> bytes; fewer, or none, where the image has not all of them. Raises nothing."""


class NotInImage(ImageError):
    """A physical address that the image does not hold."""


@dataclass(frozen=True, slots=True)
class Run:
    """A contiguous range of guest-physical memory, `size` bytes from `paddr` on; `offset` is where it lies in
    the file (0 where the image is not made of plain slices)."""

    paddr: int
    size: int
    offset: int


@dataclass(frozen=True)
class Contents:
    """What the headers of an image file say.

    `runs` are disjoint. `missing` are physical ranges that the headers promise and the file does not hold.
    `read` gives bytes where the file is not made of plain slices.
    """

    format_name: str
    runs: Sequence[Run]
    missing: Sequence[Range] = ()
    read: Reader | None = None


class PhysicalImage:
    """An opened memory image, read-only. It closes its file.

    `runs` are sorted. `mappable`: every run is a page-aligned slice of the file, so it can be mapped.
    """

    def __init__(self, file: ImageFile, contents: Contents) -> None:
        """ImageError if the contents cannot be those of a machine with Linux."""
        self.path = file.path
        self.format_name = contents.format_name
        self.file_size = file.size
        self.runs = tuple(sorted(contents.runs, key=lambda run: run.paddr))
        self.missing = tuple(contents.missing)
        self.end_paddr = max((run.paddr + run.size for run in self.runs), default=0)
        self._file = file
        self._reader = contents.read
        self._starts = [run.paddr for run in self.runs]
        self._tables: dict[int, bytes | None] = {}
        self.mappable = contents.read is None and all(
            run.offset % PAGE_SIZE == 0 and run.paddr % PAGE_SIZE == 0 and run.size > 0 for run in self.runs
        )
        if sum(run.size for run in self.runs) < MIN_IMAGE_SIZE:
            raise ImageError(
                f"{self.path}: truncated: this {self.format_name} file holds less memory than a Linux kernel "
                "needs"
            )
        if self.end_paddr > MAX_PADDR:
            raise ImageError(f"{self.path}: damaged headers: memory at impossible physical addresses")

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def run_at(self, paddr: int) -> Run | None:
        """The run that holds a physical address."""
        index = bisect_right(self._starts, paddr) - 1
        if index >= 0 and paddr < self.runs[index].paddr + self.runs[index].size:
            return self.runs[index]
        return None

    def offset_of(self, paddr: int) -> int | None:
        """Where a physical byte lies in the file; None if the image does not hold it, and where the file is
        not made of plain slices."""
        run = self.run_at(paddr)
        return None if run is None or self._reader is not None else run.offset + paddr - run.paddr

    def read_available(self, paddr: int, size: int) -> bytes | None:
        """`size` bytes at a physical address, None if any of them is absent."""
        parts = []
        while size > 0:
            run = self.run_at(paddr)
            if run is None:
                return None
            length = min(size, run.paddr + run.size - paddr)
            part = self._read_run(run, paddr, length)
            if len(part) != length:
                return None
            parts.append(part)
            paddr += length
            size -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_run(self, run: Run, paddr: int, length: int) -> bytes:
        if self._reader is None:
            return self._file.source.read_at(run.offset + paddr - run.paddr, length)
        return self._reader(paddr, length)

    def table_entry(self, paddr: int) -> int | None:
        """The 64-bit word at a physical address that is a multiple of 8, None if it is absent. Its page is
        kept: a walk of page tables comes back to the same ones."""
        page = paddr & -PAGE_SIZE
        if page not in self._tables:
            if len(self._tables) == MAX_TABLES:
                self._tables.clear()
            self._tables[page] = self.read_available(page, PAGE_SIZE)
        table = self._tables[page]
        word = self.read_available(paddr, 8) if table is None else table[paddr - page : paddr - page + 8]
        return None if word is None else int.from_bytes(word, "little")

    def read(self, paddr: int, size: int) -> bytes:
        """As `read_available`, but NotInImage if any byte is absent."""
        data = self.read_available(paddr, size)
        if data is None:
            raise NotInImage(f"{self.path}: physical address {paddr:#x} is not in the image")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class RunList:
    """Gathers runs one after the other, cut to what the file holds and to what no earlier run has."""

    def __init__(self, file_size: int) -> None:
        self._file_size = file_size
        self.runs: list[Run] = []
        """Ascending, disjoint."""
        self.missing: list[Range] = []
        """What the runs promise and the file does not hold."""

    @property
    def full(self) -> bool:
        """Whether the file lists more ranges than any real one."""
        return len(self.runs) >= MAX_RUNS

    def add(self, paddr: int, size: int, offset: int) -> None:
        """One range as a header gives it."""
        present = max(0, min(size, self._file_size - offset))
        if present < size:
            self.missing.append((paddr + present, size - present))
        end, shift = paddr + present, offset - paddr
        index = max(0, bisect_right(self.runs, paddr, key=lambda run: run.paddr) - 1)
        while paddr < end and len(self.runs) <= 2 * MAX_RUNS:
            run = self.runs[index] if index < len(self.runs) else None
            if run is not None and run.paddr <= paddr:
                paddr = max(paddr, run.paddr + run.size)
            else:
                until = end if run is None else min(end, run.paddr)
                self.runs.insert(index, Run(paddr, until - paddr, paddr + shift))
                paddr = until
            index += 1

    def contents(self, format_name: str) -> Contents:
        """What was gathered."""
        return Contents(format_name, self.runs, self.missing)
