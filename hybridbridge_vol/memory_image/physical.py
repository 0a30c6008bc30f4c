"""An opened memory image: which guest-physical ranges it holds, and reading them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.image_file import ImageFile, ReadAt
from hybridbridge_vol.memory_image.ranges import Range, joined, merged
from hybridbridge_vol.memory_image.runs import ZEROS, Run
from hybridbridge_vol.units import PAGE_SIZE

MAX_TABLES = 1024
"""Pages of page tables that are kept, 4 MiB of them: those of the kernel, and of some processes."""

MIN_IMAGE_SIZE = 2 << 20
"""Smaller than any kernel's text."""

MAX_PADDR = 1 << 46
"""Physical addresses that x86-64 Linux with 4-level paging can map (64 TiB)."""

_PADDED_AT_ONCE = 1 << 17
"""Bytes of which it is asked whether any are there, before their pages are read one by one."""

MAX_RUNS = 4096
"""Ranges that are mapped or walked one by one; of more, those that lie close together become one."""

Reader = Callable[[int, int], bytes]
"""(physical address, size) -> bytes; fewer, or none, where the image has not all of them. Raises nothing."""


class NotInImage(ImageError):
    """A physical address that the image does not hold."""


class CpuRegisters(NamedTuple):
    """Registers of one CPU; None, or no debug registers: the image's format lacks them.

    `cr3` tells to which kernel a CPU belongs (the physical address of its page tables' root, in bits 12 and
    above). `idt_vaddr`: where its interrupt descriptor table begins. `lstar`, `cstar` and `sysenter_eip`:
    where system calls enter the kernel (SDM volume 3A, 5.8.7 and 5.8.8). `debug`: DR0 to DR7.
    """

    cr3: int
    cr0: int | None = None
    cr4: int | None = None
    idt_vaddr: int | None = None
    lstar: int | None = None
    cstar: int | None = None
    sysenter_eip: int | None = None
    debug: tuple[int, ...] = ()


WhyAbsent = Callable[[int], str | None]
"""physical address -> why the image does not hold it, in a few words; None if nothing is known."""


class Contents(NamedTuple):
    """What the headers of an image file say.

    `runs` are ascending and disjoint. `missing` are physical ranges that the headers promise and the file
    does not hold. `read` gives bytes where the file is not made of plain slices; runs may cover pages that
    cannot be read then. `left_out` says, in one line, what the writer left out on purpose; `why_absent` says
    it of one address. `cpus` are the registers of the machine's CPUs, where the format has them. `caution`
    says what an answer from this file rests on. `zeros` gives the bytes of runs at the offset ZEROS, fewer
    where a page is not certain to be zeros. `may_hold` says of a physical address and a size whether the file
    may have any of these bytes: where `read` finds little in long runs.
    """

    format_name: str
    runs: Sequence[Run]
    missing: Sequence[Range] = ()
    read: Reader | None = None
    left_out: str | None = None
    why_absent: WhyAbsent = lambda _paddr: None
    cpus: Sequence[CpuRegisters] = ()
    caution: str | None = None
    zeros: Reader = lambda _paddr, size: bytes(size)
    may_hold: Callable[[int, int], bool] = lambda _paddr, _size: True


def read_through(contents: Contents, read_at: ReadAt) -> Contents:
    """The contents of a file that is not made of plain slices, but whose inner file, which `read_at` reads,
    is."""
    slices = _Slices(contents.runs)

    def read(paddr: int, size: int) -> bytes:
        run = slices.at(paddr)
        return (
            b"" if run is None else read_at(run.offset + paddr - run.paddr, min(size, run.end_paddr - paddr))
        )

    return contents._replace(read=read)


class PhysicalImage:
    """An opened memory image, read-only. It closes its file.

    `runs` are ascending, at most MAX_RUNS; what lies between close ones may be counted to them. `stored` are
    those that the file has bytes for, exact and any number; `may_hold` as the contents have it. `ranges` are
    exact: physical memory that the file accounts for, be it that its writer left pages of it out
    (`left_out`). `mappable`: every run is a page-aligned slice of the file, so it can be mapped."""

    def __init__(self, file: ImageFile, contents: Contents) -> None:
        """ImageError if the contents cannot be those of a machine with Linux."""
        self.path = file.path
        self.format_name = contents.format_name
        self.file_size = file.size
        self.memory_size = sum(run.size for run in contents.runs)
        self.missing = tuple(contents.missing)
        self.left_out = contents.left_out
        self.caution = contents.caution
        self.cpus = tuple(contents.cpus)
        self.ranges = joined((run.paddr, run.size) for run in contents.runs)
        self._why_absent = contents.why_absent
        self._zeros = contents.zeros
        self.may_hold = contents.may_hold
        self._slices = _Slices(contents.runs)
        self.runs = self._slices.runs
        self.stored = tuple(run for run in self.runs if run.offset != ZEROS)
        if len(self.runs) > MAX_RUNS:
            coarse = merged(((run.paddr, run.size) for run in self.runs), MAX_RUNS)
            self.runs = tuple(Run(paddr, size, 0) for paddr, size in coarse)
        self.end_paddr = self.runs[-1].end_paddr if self.runs else 0
        self._file = file
        self._reader = contents.read
        self._coarse = _Slices(self.runs)
        self._tables: dict[int, bytes | None] = {}
        self.mappable = (
            contents.read is None
            and len(contents.runs) <= MAX_RUNS
            and all(run.offset % PAGE_SIZE == 0 and run.paddr % PAGE_SIZE == 0 for run in self.runs)
        )
        if self.memory_size < MIN_IMAGE_SIZE:
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
        return self._coarse.at(paddr)

    def offset_of(self, paddr: int) -> int | None:
        """Where a physical byte lies in the file; None if it does not, and where the file is not made of
        plain slices."""
        run = self._slices.at(paddr)
        if run is None or run.offset == ZEROS or self._reader is not None:
            return None
        return run.offset + paddr - run.paddr

    def read_available(self, paddr: int, size: int) -> bytes | None:
        """`size` bytes at a physical address, None if any of them is absent."""
        parts = []
        while size > 0:
            run = self._slices.at(paddr)
            if run is None:
                return None
            length = min(size, run.end_paddr - paddr)
            part = self._read_run(run, paddr, length)
            if len(part) != length:
                return None
            parts.append(part)
            paddr += length
            size -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_padded(self, paddr: int, size: int) -> bytes:
        """`size` bytes at a physical address; zeros in place of pages that are not all there."""
        whole = self.read_available(paddr, size)
        if whole is not None:
            return whole
        parts, end = [], paddr + size
        while paddr < end:
            step = min(end - paddr, _PADDED_AT_ONCE - paddr % _PADDED_AT_ONCE)
            parts.append(self._pages_padded(paddr, step) if self.may_hold(paddr, step) else bytes(step))
            paddr += step
        return b"".join(parts)

    def _pages_padded(self, paddr: int, size: int) -> bytes:
        parts, end = [], paddr + size
        while paddr < end:
            step = min(end - paddr, PAGE_SIZE - paddr % PAGE_SIZE)
            parts.append(self.read_available(paddr, step) or bytes(step))
            paddr += step
        return b"".join(parts)

    def _read_run(self, run: Run, paddr: int, length: int) -> bytes:
        if run.offset == ZEROS:
            return self._zeros(paddr, length)
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

    def why_absent(self, paddr: int) -> str:
        """Why the image does not hold a physical address, in a few words."""
        reason = self._why_absent(paddr)
        if reason is None and any(start <= paddr < start + size for start, size in self.missing):
            reason = "the file is truncated"
        if reason is None:
            reason = "its bytes are damaged" if self._slices.at(paddr) else "outside of the image's ranges"
        return reason

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class _Slices:
    """Ascending, disjoint runs, found by address."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = tuple(runs)
        self._starts = [run.paddr for run in runs]

    def at(self, paddr: int) -> Run | None:
        """The run that holds a physical address."""
        index = bisect_right(self._starts, paddr) - 1
        return self.runs[index] if index >= 0 and paddr < self.runs[index].end_paddr else None
