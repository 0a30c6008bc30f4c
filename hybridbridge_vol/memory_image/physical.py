"""An opened memory image: which guest-physical ranges it holds, and reading them."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hybridbridge_vol.errors import ImageError
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


class ImageHole(ImageError):
    """A physical address that the image does not hold."""


@dataclass(frozen=True, slots=True)
class Run:
    """A contiguous range of guest-physical memory; `offset` is where it lies in the file (or layer).
    Bytes."""

    paddr: int
    size: int
    offset: int


class PhysicalImage:
    """An opened memory image, read-only.

    `runs` are sorted and disjoint. `missing` are `(paddr, size)` ranges that the headers promise and the file
    does not hold. `reader` is what gives bytes where the file is not made of plain slices. `mappable`: every
    run is a page-aligned slice of the file, so it can be mapped.
    """

    def __init__(
        self,
        path: Path,
        fd: int,
        format_name: str,
        runs: Sequence[Run],
        missing: Sequence[tuple[int, int]] = (),
        reader: Reader | None = None,
    ) -> None:
        self.path = path
        self.format_name = format_name
        self.file_size = os.fstat(fd).st_size
        self.runs = tuple(sorted(runs, key=lambda run: run.paddr))
        self.missing = tuple(missing)
        self.end_paddr = max((run.paddr + run.size for run in self.runs), default=0)
        self._fd = fd
        self._reader = reader
        self._starts = [run.paddr for run in self.runs]
        self._tables: dict[int, bytes | None] = {}
        self.mappable = reader is None and all(
            run.offset % PAGE_SIZE == 0 and run.paddr % PAGE_SIZE == 0 and run.size > 0 for run in self.runs
        )

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._fd

    def run_at(self, paddr: int) -> Run | None:
        """The run that holds a physical address."""
        index = bisect_right(self._starts, paddr) - 1
        if index >= 0 and paddr < self.runs[index].paddr + self.runs[index].size:
            return self.runs[index]
        return None

    def offset_of(self, paddr: int) -> int | None:
        """Where a physical byte lies in the file; None in a hole, and where the file is not made of plain
        slices."""
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
            return os.pread(self._fd, length, run.offset + paddr - run.paddr)
        return self._reader(paddr, length)

    def table_entry(self, paddr: int) -> int | None:
        """The 64-bit word at a physical address that is a multiple of 8, None if it is absent. Its page is
        kept: who walks page tables comes back to the same ones."""
        page = paddr & -PAGE_SIZE
        if page not in self._tables:
            if len(self._tables) == MAX_TABLES:
                self._tables.clear()
            self._tables[page] = self.read_available(page, PAGE_SIZE)
        table = self._tables[page]
        word = self.read_available(paddr, 8) if table is None else table[paddr - page : paddr - page + 8]
        return None if word is None else int.from_bytes(word, "little")

    def read(self, paddr: int, size: int) -> bytes:
        """As `read_available`, but ImageHole if any byte is absent."""
        data = self.read_available(paddr, size)
        if data is None:
            raise ImageHole(f"{self.path}: physical address {paddr:#x} is not in the image")
        return data

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def checked(image: PhysicalImage) -> PhysicalImage:
    if sum(run.size for run in image.runs) < MIN_IMAGE_SIZE:
        raise ImageError(
            f"{image.path}: truncated: this {image.format_name} file holds less memory than a Linux kernel needs"
        )
    if image.end_paddr > MAX_PADDR:
        raise ImageError(f"{image.path}: damaged headers: memory at impossible physical addresses")
    return image


ReadAt = Callable[[int, int], bytes]
"""(file offset, size) -> bytes, fewer at the end of the file."""


def file_reader(fd: int) -> ReadAt:
    """Reads an open file wherever a header says: nothing lies where no file can have anything."""
    return lambda offset, size: os.pread(fd, size, offset) if 0 <= offset <= MAX_PADDR else b""


class Collector:
    """Gathers ranges, cut to what the file holds and to what no earlier range has."""

    def __init__(self, file_size: int) -> None:
        self._file_size = file_size
        self.runs: list[Run] = []
        """Ascending."""
        self.missing: list[tuple[int, int]] = []

    @property
    def full(self) -> bool:
        """Whether the file lists more ranges than any real one."""
        return len(self.runs) >= MAX_RUNS

    def add(self, paddr: int, size: int, offset: int) -> None:
        """One range as a header tells it."""
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

    def result(self) -> tuple[list[Run], list[tuple[int, int]]]:
        """Runs in address order, and what is missing."""
        return self.runs, self.missing
