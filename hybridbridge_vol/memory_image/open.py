"""Memory image files: which guest-physical ranges a file holds, and where.

Raw, LiME and ELF cores are lists of plain slices of the file. Their two small parsers are our own because importing
Volatility costs more time than all the rest of a run; kdump-compressed dumps, AVML and VMware have modules of their
own, and QEMU's saved states are left to Volatility's layer.
Nothing here is read but headers: a PhysicalImage reads what it is asked for.

A compressed raw image is not unpacked on the fly but named, with the command that unpacks it: pages are asked for all
over the file, so every run of every tool would unpack all of it again, minutes for an answer that takes 0.3 s from
the unpacked file, and would hide a second copy of the machine's memory in a temporary folder that may lack the room.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image import foreign_files as mistaken

Progress = Callable[[float, str], None]

PAGE_SIZE = 4096
MAX_TABLES = 1024
"""Pages of page tables that are kept, 4 MiB of them: those of the kernel, and of some processes."""
MIN_IMAGE_SIZE = 2 << 20
"""Smaller than any kernel's text."""
MAX_PADDR = 1 << 46
"""Physical addresses that x86-64 Linux with 4-level paging can map (64 TiB)."""
_KDUMP = (b"KDUMP   ", b"makedumpfile\0\0\0\0")
MAX_RUNS = 4096
"""Ranges a file may list; real ones have fewer than a hundred."""

LIME_MAGIC = 0x4C694D45
_LIME_HEADER = struct.Struct("<IIQQQ")
_ELF_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _ET_CORE, _PN_XNUM = 1, 4, 0xFFFF

_AVML = b"AVML\2\0\0\0"
_SAVEVM = b"QEVM"
_VMEM = ".vmem"
_VMWARE = tuple(bytes.fromhex(magic) for magic in ("d0bed2be", "d0bed0be", "d1bad1ba", "d2bad2ba", "d2bed2be", "d3bed3be"))


Reader = Callable[[int, int], bytes]
"""(physical address, size) -> bytes; fewer, or none, where the image has not all of them. Raises nothing."""


class ImageHole(ImageError):
    """A physical address that the image does not hold."""


@dataclass(frozen=True, slots=True)
class Run:
    """A contiguous range of guest-physical memory; `offset` is where it lies in the file (or layer). Bytes."""

    paddr: int
    size: int
    offset: int


class PhysicalImage:
    """An opened memory image, read-only.

    `runs` are sorted and disjoint. `missing` are `(paddr, size)` ranges that the headers promise and the file does
    not hold. `reader` is what gives bytes where the file is not made of plain slices. `mappable`: every run is a
    page-aligned slice of the file, so it can be mapped.
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
        """Where a physical byte lies in the file; None in a hole, and where the file is not made of plain slices."""
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
        """The 64-bit word at a physical address that is a multiple of 8, None if it is absent. Its page is kept: who walks
        page tables comes back to the same ones."""
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


def open_image(path: Path | str, progress: Progress | None = None) -> PhysicalImage:
    """Open a memory image of any format. ImageError, in one line, if it is none."""
    path = Path(path)
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = "does not exist" if error.errno == errno.ENOENT else f"cannot be opened ({error.strerror})"
        raise ImageError(f"{path}: {reason}") from None
    try:
        return _identify(path, fd, progress)
    except OSError as error:
        os.close(fd)
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    except BaseException:
        os.close(fd)
        raise


def _identify(path: Path, fd: int, progress: Progress | None) -> PhysicalImage:
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        raise ImageError(f"{path}: a directory; give the memory image in it")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{path}: not a regular file; copy the memory to a file first")
    if info.st_size == 0:
        raise ImageError(f"{path}: empty")
    head = os.pread(fd, mistaken.HEAD_SIZE, 0)
    if what := mistaken.what_it_is(head, str(path)):
        raise ImageError(f"{path}: {what}")
    if head[:4] == LIME_MAGIC.to_bytes(4, "little") and head[4:8] == b"\x01\0\0\0":
        runs, missing = parse_lime(file_reader(fd), info.st_size)
        return _checked(PhysicalImage(path, fd, "LiME", runs, missing))
    if head[:4] == b"\x7fELF":
        runs, missing = parse_elf_core(file_reader(fd), info.st_size, str(path))
        return _checked(PhysicalImage(path, fd, "ELF core", runs, missing))
    if head.startswith(_KDUMP):
        return _checked(_open_kdump(path, fd, info.st_size, progress))
    if head.startswith(_AVML):
        return _checked(_open_avml(path, fd, info.st_size, progress))
    if head.startswith(_SAVEVM):
        return _checked(open_with_volatility(path, fd, "QEMU savevm", progress))
    if head.startswith(_VMWARE) or path.suffix.lower() == _VMEM:
        from hybridbridge_vol.memory_image.vmware import open_vmware

        return _checked(open_vmware(path, fd, progress))
    if info.st_size < MIN_IMAGE_SIZE:
        raise ImageError(f"{path}: too small to hold a Linux kernel ({info.st_size} bytes)")
    if info.st_size > MAX_PADDR:
        raise ImageError(f"{path}: larger than any machine's memory ({info.st_size} bytes)")
    return PhysicalImage(path, fd, "raw", [Run(0, info.st_size, 0)])


def _open_kdump(path: Path, fd: int, file_size: int, progress: Progress | None) -> PhysicalImage:
    from hybridbridge_vol.memory_image import kdump
    from hybridbridge_vol.memory_image import kdump_flattened as flattened

    read_at = file_reader(fd)
    name = "kdump"
    if read_at(0, len(flattened.SIGNATURE)) == flattened.SIGNATURE:
        name = "kdump (flattened)"
        whole = flattened.Flattened(read_at, file_size, str(path), progress)
        read_at, file_size = whole.read_at, whole.size
    dump = kdump.KdumpFile(read_at, file_size, str(path), progress)
    runs = [Run(paddr, size, 0) for paddr, size in dump.ranges]
    return PhysicalImage(path, fd, name, runs, dump.missing, dump.read)


def _open_avml(path: Path, fd: int, file_size: int, progress: Progress | None) -> PhysicalImage:
    from hybridbridge_vol.memory_image.avml import AvmlPages
    from hybridbridge_vol.memory_image.kdump import merged

    pages = AvmlPages(file_reader(fd), file_size, progress)
    runs = [Run(paddr, size, 0) for paddr, size in merged(sorted(pages.spans), MAX_RUNS)]
    return PhysicalImage(path, fd, "AVML", runs, pages.missing, pages.read)


def _checked(image: PhysicalImage) -> PhysicalImage:
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


def parse_lime(read_at: ReadAt, file_size: int) -> tuple[list[Run], list[tuple[int, int]]]:
    """The runs of a LiME file, and what is missing of them (LiME's doc/README, "format=lime").

    Each range has a header: magic, version, first and last physical address, 8 reserved bytes. Reading ends at the
    first header that makes no sense. A range that overlaps an earlier one is cut to what is new.
    """
    collected = Collector(file_size)
    offset = 0
    while offset + _LIME_HEADER.size <= file_size and not collected.full:
        header = read_at(offset, _LIME_HEADER.size)
        if len(header) < _LIME_HEADER.size:
            break
        magic, version, start, last, _reserved = _LIME_HEADER.unpack(header)
        if magic != LIME_MAGIC or version != 1 or last < start or last >= MAX_PADDR:
            break
        offset += _LIME_HEADER.size
        collected.add(start, last - start + 1, offset)
        offset += last - start + 1
    return collected.result()


def parse_elf_core(read_at: ReadAt, file_size: int, name: str) -> tuple[list[Run], list[tuple[int, int]]]:
    """The runs of an ELF core of a machine's memory: PT_LOAD headers with physical addresses (ELF-64, gABI).

    ImageError if the file is an ELF file of another kind. Segments without bytes in the file are left out; one that
    overlaps an earlier one is cut to what is new.
    """
    head = read_at(0, 64)
    if len(head) < 64 or head[4] != 2:
        raise ImageError(f"{name}: an ELF file, but not a 64-bit core of a machine's memory")
    (kind,) = struct.unpack_from("<H", head, 16)
    if kind != _ET_CORE:
        raise ImageError(f"{name}: an ELF program, not a memory image")
    (table,) = struct.unpack_from("<Q", head, 32)
    (section_table,) = struct.unpack_from("<Q", head, 40)
    entry_size, count = struct.unpack_from("<HH", head, 54)
    if count == _PN_XNUM:  # more headers than fit 16 bits: the first section header has their number
        section = read_at(section_table, 64)
        count = struct.unpack_from("<I", section, 44)[0] if len(section) == 64 else 0
    if entry_size != _ELF_PROGRAM_HEADER.size or not 0 < count <= MAX_RUNS:
        raise ImageError(f"{name}: a damaged ELF core (no usable program headers)")
    headers = read_at(table, entry_size * count)
    collected = Collector(file_size)
    for i in range(len(headers) // entry_size):
        kind, _flags, offset, _vaddr, paddr, size, _mem_size, _align = _ELF_PROGRAM_HEADER.unpack_from(
            headers, entry_size * i
        )
        if kind == _PT_LOAD and size and paddr + size <= MAX_PADDR:
            collected.add(paddr, size, offset)
    if not collected.runs and not collected.missing:
        raise ImageError(f"{name}: an ELF core without memory (no PT_LOAD segment with physical addresses)")
    return collected.result()


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


def open_with_volatility(path: Path, fd: int, name: str, progress: Progress | None) -> PhysicalImage:
    """Read the image through Volatility's own layers: its stackers for file formats, none for operating systems."""
    if progress:
        progress(0.0, f"reading the {name} file with Volatility's layer")
    from volatility3.framework import contexts, interfaces
    from volatility3.framework.automagic import stacker
    from volatility3.framework.layers import physical, qemu

    from hybridbridge_vol.memory_image.kdump import merged

    context = contexts.Context()
    context.config["hb.base.location"] = path.resolve().as_uri()
    base = physical.FileLayer(context, "hb.base", "hb_base")
    context.add_layer(base)
    try:
        result = stacker.LayerStacker.stack_layer(context, "hb_base", [qemu.QemuStacker], lambda *_args: None)
    except Exception:  # noqa: BLE001  damaged files, and machines that a layer does not know: each has errors of its own
        result = None
    if not result:
        raise ImageError(f"{path}: Volatility cannot read this {name} file; convert it to raw or LiME")
    layer = context.layers[result[0]]  # the names of the layers, the topmost first
    if not isinstance(layer, interfaces.layers.DataLayerInterface) or layer.name == "hb_base":
        raise ImageError(f"{path}: Volatility cannot read this {name} file; convert it to raw or LiME")
    try:
        segments = getattr(layer, "_segments", None) or [(0, 0, layer.maximum_address + 1, 0)]
    except Exception:  # noqa: BLE001  a layer without any memory
        raise ImageError(f"{path}: Volatility finds no memory in this {name} file; convert it to raw or LiME") from None
    ranges = sorted((segment[0], segment[2]) for segment in segments)  # one for each page or compressed block
    runs = [Run(paddr, size, 0) for paddr, size in merged(ranges, MAX_RUNS)]

    def read(paddr: int, size: int) -> bytes:
        try:
            return bytes(layer.read(paddr, size, pad=False))
        except Exception:  # noqa: BLE001  damaged blocks: each layer has errors of its own
            return b""

    return PhysicalImage(path, fd, name, runs, (), read)
