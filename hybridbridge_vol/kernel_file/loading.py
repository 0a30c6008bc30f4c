"""What a kernel file holds, whatever it is wrapped in: the kernel's bytes, and where they are loaded.

A bzImage, an ELF vmlinux, the kernel as it lies in memory (a flat image), or an ELF that carries one of these
as data.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybridbridge_vol import elf_headers
from hybridbridge_vol.errors import ForeignKernel, KernelFileError
from hybridbridge_vol.kernel_file.bzimage import NO_SETUP_HEADER, is_bzimage, is_elf, parse_bzimage
from hybridbridge_vol.kernel_file.embedded import embedded_objects, is_flat_kernel
from hybridbridge_vol.kernel_file.foreign_kernels import what_foreign
from hybridbridge_vol.kernel_file.kallsyms import find_symbols
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP

_MAX_SEGMENTS = 32
"""A kernel has two to five."""
_MAX_LINKED_SIZE = 512 << 20
"""Highest physical address as linked; KERNEL_IMAGE_SIZE allows 1 GiB, distributions use 80 MB."""
_READ_WRITE_EXECUTE = 7


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD program header of the kernel's ELF: bytes of the file, and where they are loaded.

    `vaddr` of a per-CPU segment linked at 0 is an offset; `paddr` is where the segment is in the image.
    """

    file_offset: int
    vaddr: int
    paddr: int
    file_size: int
    mem_size: int
    flags: int


@dataclass(frozen=True)
class LoadedKernel:
    """`setup_header`: the boot header from offset 0x1f1, zeros where there is none. `vmlinux`: the bytes that
    the segments are parts of, and what follows. `entry_paddr`: of `startup_64`. `symbols`: kallsyms, where
    they had to be read already."""

    setup_header: bytes
    vmlinux: bytes
    entry_paddr: int
    segments: tuple[Segment, ...]
    symbols: Symbols | None = None

    @property
    def start_vaddr(self) -> int:
        """Link-time address of the first segment."""
        return self.segments[0].vaddr

    def flat(self) -> bytearray:
        """The segments as they lie in memory, from the first one's start."""
        return flatten(self.vmlinux, self.segments)


def load_kernel(data: bytes, name: str) -> LoadedKernel:
    """Unwrap a kernel file; `name` is the file to name in a KernelFileError."""
    foreign = what_foreign(data)
    if is_elf(data):
        try:
            if foreign is not None:
                raise ForeignKernel(f"{name}: {foreign}")
            return _from_elf(NO_SETUP_HEADER, data, name)
        except KernelFileError:
            inner = _embedded(data, name)
            if inner is None:
                raise
            return inner
    if foreign is None and not is_bzimage(data) and is_flat_kernel(data):
        return _from_flat(data, name)
    container = parse_bzimage(data, name)
    return _from_elf(container.setup_header, container.vmlinux, name)


def _from_elf(setup_header: bytes, vmlinux: bytes, name: str) -> LoadedKernel:
    entry_paddr, segments = parse_elf(vmlinux, name)
    return LoadedKernel(setup_header, vmlinux, entry_paddr, segments)


def _embedded(data: bytes, name: str) -> LoadedKernel | None:
    """The kernel inside of an ELF that is none itself; None if there is none."""
    for item in embedded_objects(data):
        if is_elf(item):
            return _from_elf(NO_SETUP_HEADER, item, name)
        if is_bzimage(item):
            container = parse_bzimage(item, name)
            return _from_elf(container.setup_header, container.vmlinux, name)
        if is_flat_kernel(item):
            return _from_flat(item, name)
    return None


def _from_flat(data: bytes, name: str) -> LoadedKernel:
    """A kernel as it lies in memory from `_text` on; where that is, its own symbols say."""
    symbols = find_symbols(data, None, name)
    start, entry = symbols.address("_text"), symbols.get("startup_64")
    if entry is None:
        raise KernelFileError(f"{name}: the kernel has no entry (startup_64); give an amd64 kernel")
    paddr = start - START_KERNEL_MAP
    segment = Segment(0, start, paddr, len(data), len(data), _READ_WRITE_EXECUTE)
    return LoadedKernel(NO_SETUP_HEADER, data, entry - START_KERNEL_MAP, (segment,), symbols)


def parse_elf(vmlinux: bytes, name: str) -> tuple[int, tuple[Segment, ...]]:
    """Entry point (physical) and loadable segments of the kernel's ELF, ascending by physical address."""
    if len(vmlinux) < elf_headers.HEADER.size:
        raise KernelFileError(f"{name}: its ELF is truncated; fetch it again")
    elf = elf_headers.ElfHeader.of(vmlinux)
    start, end = elf.segments_offset, elf.segments_offset + elf.segment_size * elf.segment_count
    if (
        elf.segment_size != elf_headers.PROGRAM_HEADER.size
        or not 0 < elf.segment_count <= _MAX_SEGMENTS
        or end > len(vmlinux)
    ):
        raise KernelFileError(f"{name}: its ELF has no usable program headers; fetch it again")
    segments = []
    for kind, flags, offset, vaddr, paddr, file_size, mem_size, _ in elf_headers.segments(vmlinux[start:end]):
        if kind != elf_headers.PT_LOAD:
            continue
        if offset + file_size > len(vmlinux) or file_size > mem_size or paddr + mem_size > _MAX_LINKED_SIZE:
            raise KernelFileError(
                f"{name}: its ELF has a segment outside of the file or of memory; fetch it again"
            )
        segments.append(Segment(offset, vaddr, paddr, file_size, mem_size, flags))
    segments.sort(key=lambda segment: segment.paddr)
    first = segments[0] if segments else None
    if first is None or first.vaddr - START_KERNEL_MAP != first.paddr or first.paddr % PAGE_SIZE:
        raise KernelFileError(
            f"{name}: its ELF is not laid out like a 64-bit x86 kernel; give an amd64 kernel"
        )
    return elf.entry, tuple(segments)


def flatten(vmlinux: bytes, segments: tuple[Segment, ...]) -> bytearray:
    """The segments at their physical addresses, from the first one's start; zeros between them."""
    base_paddr = segments[0].paddr
    flat = bytearray(max(segment.paddr + segment.mem_size for segment in segments) - base_paddr)
    for segment in segments:
        start = segment.paddr - base_paddr
        data = memoryview(vmlinux)[segment.file_offset : segment.file_offset + segment.file_size]
        flat[start : start + segment.file_size] = data
    return flat
