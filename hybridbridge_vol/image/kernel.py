"""One kernel file, taken apart: segments, relocations, symbols, names."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.image.container import parse_bzimage
from hybridbridge_vol.image.kallsyms import Symbols, find_symbols
from hybridbridge_vol.image.packages import read_vmlinuz
from hybridbridge_vol.image.relocations import START_KERNEL_MAP, Relocations, parse_relocations

Progress = Callable[[float, str], None]

_PT_LOAD = 1
_MAX_SEGMENTS = 32
"""A kernel has four or five."""
_MAX_LINKED_SIZE = 512 << 20
"""Bytes from the first to the last link-time address; KERNEL_IMAGE_SIZE allows 1 GiB, distributions use 60 MB."""


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD program header of the kernel's ELF: bytes of the file, and where they go."""

    file_offset: int
    vaddr: int
    paddr: int
    file_size: int
    mem_size: int
    flags: int


@dataclass(frozen=True)
class KernelImage:
    """See the module's text. Virtual addresses are link-time addresses.

    `vmlinuz` is the whole kernel file; `setup_header` its boot header from offset 0x1f1; `vmlinux` the decompressed
    ELF with what follows it; `entry_paddr` the physical address of `startup_64`.
    """

    path: Path
    vmlinuz: bytes
    setup_header: bytes
    vmlinux: bytes
    segments: tuple[Segment, ...]
    entry_paddr: int
    relocations: Relocations
    symbols: Symbols
    banner: str
    release: str
    build_id: str

    @classmethod
    def from_file(cls, path: Path | str, progress: Progress | None = None) -> KernelImage:
        """Read a vmlinuz, `.deb` or `.rpm`. Raises KernelFileError."""
        path = Path(path)
        tell = progress or (lambda _fraction, _text: None)
        tell(0.0, "reading")
        vmlinuz = read_vmlinuz(path)
        tell(0.1, "decompressing")
        container = parse_bzimage(vmlinuz, str(path))
        vmlinux = container.vmlinux
        entry, segments = parse_elf(vmlinux, str(path))
        elf_end = max(segment.file_offset + segment.file_size for segment in segments)
        relocations = parse_relocations(vmlinux, elf_end, str(path))
        tell(0.5, "decoding symbols")
        symbols = find_symbols(flatten(vmlinux, segments), segments[0].vaddr, str(path))
        banner = _banner(vmlinux, segments, symbols, str(path))
        release = banner.split()[2]
        build_id = _build_id(vmlinux, segments, symbols)
        tell(1.0, "done")
        return cls(
            path, vmlinuz, container.setup_header, vmlinux, segments, entry, relocations, symbols, banner, release, build_id
        )

    @cached_property
    def _flat(self) -> bytearray:
        text = self.symbols.address("_text")
        flat = flatten(self.vmlinux, self.segments)
        start = text - self.segments[0].vaddr
        size = self.symbols.address("_end") - text
        return flat[start : start + size].ljust(size, b"\0")

    def flat(self) -> bytearray:
        """The image from `_text` to `_end` as linked, zeros where the file has nothing. Not to be changed."""
        return self._flat


def parse_elf(vmlinux: bytes, name: str) -> tuple[int, tuple[Segment, ...]]:
    """Entry point (physical) and loadable segments of the kernel's ELF, ascending by physical address."""
    entry, table = struct.unpack_from("<QQ", vmlinux, 24)
    entry_size, count = struct.unpack_from("<HH", vmlinux, 54)
    if entry_size != 56 or not 0 < count <= _MAX_SEGMENTS or table + 56 * count > len(vmlinux):
        raise KernelFileError(f"{name}: its ELF has no usable program headers")
    segments = []
    for i in range(count):
        kind, flags, offset, vaddr, paddr, size, mem_size, _align = struct.unpack_from("<IIQQQQQQ", vmlinux, table + 56 * i)
        if kind != _PT_LOAD:
            continue
        if offset + size > len(vmlinux) or size > mem_size or paddr + mem_size > _MAX_LINKED_SIZE:
            raise KernelFileError(f"{name}: its ELF has a segment that lies outside of the file")
        segments.append(Segment(offset, vaddr, paddr, size, mem_size, flags))
    segments.sort(key=lambda segment: segment.paddr)
    if not segments or segments[0].vaddr - START_KERNEL_MAP != segments[0].paddr:
        raise KernelFileError(f"{name}: its ELF is not laid out like a 64-bit Linux kernel")
    return entry, tuple(segments)


def flatten(vmlinux: bytes, segments: tuple[Segment, ...]) -> bytearray:
    """The segments at their places, from the first one's start."""
    base = segments[0].paddr
    flat = bytearray(max(segment.paddr + segment.mem_size for segment in segments) - base)
    for segment in segments:
        data = memoryview(vmlinux)[segment.file_offset : segment.file_offset + segment.file_size]
        flat[segment.paddr - base : segment.paddr - base + segment.file_size] = data
    return flat


def _banner(vmlinux: bytes, segments: tuple[Segment, ...], symbols: Symbols, name: str) -> str:
    """The text at `linux_banner` (init/version.c), as it stands in memory too."""
    raw = bytes(_at(vmlinux, segments, symbols.address("linux_banner"), 512))
    banner = raw.split(b"\0")[0].decode("latin-1")
    if not banner.startswith("Linux version ") or len(banner.split()) < 3:
        raise KernelFileError(f"{name}: no banner where its symbol table says it is")
    return banner


def _build_id(vmlinux: bytes, segments: tuple[Segment, ...], symbols: Symbols) -> str:
    """Hex of the GNU build id (the notes between `__start_notes` and `__stop_notes`); else of the file's digest."""
    start, stop = symbols.get("__start_notes"), symbols.get("__stop_notes")
    if start and stop and 0 < stop - start < 65536:
        for owner, kind, value in _notes(bytes(_at(vmlinux, segments, start, stop - start))):
            if owner == b"GNU\0" and kind == 3:
                return value.hex()
    import hashlib

    return hashlib.sha256(vmlinux).hexdigest()[:40]


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    offset = 0
    while offset + 12 <= len(data):
        name_size, value_size, kind = struct.unpack_from("<III", data, offset)
        value = offset + 12 + (name_size + 3 & ~3)
        yield data[offset + 12 : offset + 12 + name_size], kind, data[value : value + value_size]
        offset = value + (value_size + 3 & ~3)


def _at(vmlinux: bytes, segments: tuple[Segment, ...], vaddr: int, size: int) -> bytes:
    for segment in segments:
        offset = vaddr - segment.vaddr
        if 0 <= offset < segment.file_size:
            return vmlinux[segment.file_offset + offset : segment.file_offset + offset + size]
    return b""
