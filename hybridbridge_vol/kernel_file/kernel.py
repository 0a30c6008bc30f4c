"""One parsed kernel file: segments, relocations, symbols, names."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.bzimage import MAX_KERNEL_SIZE, parse_bzimage
from hybridbridge_vol.kernel_file.kallsyms import Symbols, find_symbols
from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from hybridbridge_vol.kernel_file.relocations import Relocations, parse_relocations
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP, Progress

_PT_LOAD = 1
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_MAX_SEGMENTS = 32
"""A kernel has two to five."""
_MAX_LINKED_SIZE = 512 << 20
"""Highest physical address as linked; KERNEL_IMAGE_SIZE allows 1 GiB, distributions use 80 MB."""
_BANNER_PREFIX = "Linux version "
_MAX_BANNER_SIZE = 512
_NT_GNU_BUILD_ID = 3
_MAX_NOTES_SIZE = 1 << 16
_IKCONFIG_START, _IKCONFIG_END = b"IKCFG_ST", b"IKCFG_ED"


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
class KernelImage:
    """A kernel as its file has it. Virtual addresses are link-time addresses; `paddr`s are as linked, too.

    `vmlinuz` is the whole kernel file; `setup_header` its boot header from offset 0x1f1; `vmlinux` the
    decompressed ELF with what follows it; `entry_paddr` the physical address of `startup_64`; `banner` the
    text of /proc/version with its newline; `release` what uname -r says; `build_id` hex of the GNU build id.
    """

    path: Path
    vmlinuz: bytes = field(repr=False)
    setup_header: bytes = field(repr=False)
    vmlinux: bytes = field(repr=False)
    segments: tuple[Segment, ...]
    entry_paddr: int
    relocations: Relocations = field(repr=False)
    symbols: Symbols = field(repr=False)
    banner: str
    release: str
    build_id: str

    @classmethod
    def from_file(cls, path: Path | str, progress: Progress | None = None) -> KernelImage:
        """Read a vmlinuz, `.deb` or `.rpm` (0.4 to 1.5 s). Raises KernelFileError."""
        path = Path(path)
        name = str(path)
        report = progress or (lambda _fraction, _text: None)
        report(0.0, "reading")
        vmlinuz = read_vmlinuz(path)
        report(0.3, "decompressing")
        container = parse_bzimage(vmlinuz, name)
        vmlinux = container.vmlinux
        report(0.7, "decoding symbols")
        entry_paddr, segments = parse_elf(vmlinux, name)
        flat = flatten(vmlinux, segments)
        start_vaddr = segments[0].vaddr
        elf_end = max(segment.file_offset + segment.file_size for segment in segments)
        relocations = parse_relocations(vmlinux, elf_end, start_vaddr, start_vaddr + len(flat), name)
        symbols = find_symbols(flat, start_vaddr, name)
        banner = _banner(flat, start_vaddr, symbols, name)
        report(1.0, "done")
        return cls(
            path,
            vmlinuz,
            container.setup_header,
            vmlinux,
            segments,
            entry_paddr,
            relocations,
            symbols,
            banner,
            banner.split()[2],
            _build_id(flat, start_vaddr, symbols) or _digest(vmlinux),
        )

    @cached_property
    def config(self) -> str | None:
        """The kernel's own configuration (CONFIG_IKCONFIG, kernel/configs.c); None if it has none inside."""
        start = self.vmlinux.find(_IKCONFIG_START + b"\x1f\x8b")
        end = self.vmlinux.find(_IKCONFIG_END, start)
        if start < 0 or end < 0:
            return None
        packed = self.vmlinux[start + len(_IKCONFIG_START) : end]
        try:
            text = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(packed, MAX_KERNEL_SIZE)
        except zlib.error:
            return None
        return text.decode("utf-8", "replace")

    @cached_property
    def _flat(self) -> bytearray:
        flat = flatten(self.vmlinux, self.segments)
        size = self.symbols.address("_end") - self.segments[0].vaddr
        if size < len(flat):
            del flat[size:]
        else:
            flat.extend(bytes(size - len(flat)))
        return flat

    def flat(self) -> bytearray:
        """The image from `_text` to `_end` as linked, zeros where the file has nothing. Not to be changed."""
        return self._flat


def parse_elf(vmlinux: bytes, name: str) -> tuple[int, tuple[Segment, ...]]:
    """Entry point (physical) and loadable segments of the kernel's ELF, ascending by physical address."""
    if len(vmlinux) < 64:
        raise KernelFileError(f"{name}: its ELF is truncated; fetch it again")
    entry_paddr, table = struct.unpack_from("<QQ", vmlinux, 24)
    entry_size, count = struct.unpack_from("<HH", vmlinux, 54)
    if (
        entry_size != _PROGRAM_HEADER.size
        or not 0 < count <= _MAX_SEGMENTS
        or table + _PROGRAM_HEADER.size * count > len(vmlinux)
    ):
        raise KernelFileError(f"{name}: its ELF has no usable program headers; fetch it again")
    segments = []
    for header in _PROGRAM_HEADER.iter_unpack(vmlinux[table : table + _PROGRAM_HEADER.size * count]):
        kind, flags, offset, vaddr, paddr, file_size, mem_size, _ = header
        if kind != _PT_LOAD:
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
    return entry_paddr, tuple(segments)


def flatten(vmlinux: bytes, segments: tuple[Segment, ...]) -> bytearray:
    """The segments at their physical addresses, from the first one's start; zeros between them."""
    base_paddr = segments[0].paddr
    flat = bytearray(max(segment.paddr + segment.mem_size for segment in segments) - base_paddr)
    for segment in segments:
        start = segment.paddr - base_paddr
        data = memoryview(vmlinux)[segment.file_offset : segment.file_offset + segment.file_size]
        flat[start : start + segment.file_size] = data
    return flat


def _banner(flat: bytearray, start_vaddr: int, symbols: Symbols, name: str) -> str:
    """The text at `linux_banner` (init/version-timestamp.c; init/version.c before 6.2), as in memory."""
    start = symbols.get("linux_banner", start_vaddr + len(flat)) - start_vaddr
    banner = bytes(flat[max(start, 0) :][:_MAX_BANNER_SIZE]).partition(b"\0")[0].decode("latin-1")
    if not banner.startswith(_BANNER_PREFIX) or len(banner.split()) < 3:
        raise KernelFileError(f"{name}: no banner where its symbol table says; give a distribution's kernel")
    return banner


def _build_id(flat: bytearray, start_vaddr: int, symbols: Symbols) -> str:
    """Hex of the GNU build id among the notes from `__start_notes` to `__stop_notes`; empty without one."""
    start, stop = symbols.get("__start_notes", 0) - start_vaddr, symbols.get("__stop_notes", 0) - start_vaddr
    if 0 <= start < stop <= min(len(flat), start + _MAX_NOTES_SIZE):
        for owner, kind, value in _notes(bytes(flat[start:stop])):
            if owner == b"GNU\0" and kind == _NT_GNU_BUILD_ID:
                return value.hex()
    return ""


def _digest(vmlinux: bytes) -> str:
    return hashlib.sha256(vmlinux).hexdigest()[:40]


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """`(owner, kind, value)` of ELF notes."""
    at = 0
    while at + 12 <= len(data):
        name_size, value_size, kind = struct.unpack_from("<III", data, at)
        value_at = at + 12 + (name_size + 3) // 4 * 4
        yield data[at + 12 : at + 12 + name_size], kind, data[value_at : value_at + value_size]
        at = value_at + (value_size + 3) // 4 * 4
