"""One parsed kernel file: segments, relocations, symbols, names."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from hybridbridge_vol.errors import IncompleteKernelError, KernelFileError
from hybridbridge_vol.kernel_file.bzimage import MAX_KERNEL_SIZE, is_elf
from hybridbridge_vol.kernel_file.kallsyms import KERNEL_IMAGE_SIZE, Symbols, find_symbols
from hybridbridge_vol.kernel_file.loading import LoadedKernel, Segment, flatten, load_kernel, parse_elf
from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from hybridbridge_vol.kernel_file.recovered_relocations import recover_relocations
from hybridbridge_vol.kernel_file.region_constants import RegionConstants, find_region_constants
from hybridbridge_vol.kernel_file.relocations import Relocations, parse_relocations
from hybridbridge_vol.kernel_file.symbol_files import GivenSymbols, completed, elf_symbols
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP, Progress

__all__ = ["KernelImage", "Segment", "StoredParts", "parse_elf"]

_BANNER_PREFIX = "Linux version "
_MAX_BANNER_SIZE = 512
_LARGE_PAGE_SIZE = 2 << 20
_NT_GNU_BUILD_ID = 3
_MAX_NOTES_SIZE = 1 << 16
_IKCONFIG_START, _IKCONFIG_END = b"IKCFG_ST", b"IKCFG_ED"


class StoredParts(NamedTuple):
    """What a store keeps of a kernel, so that it need not be found again: its symbols, and its relocations
    where its file has none."""

    symbols: Symbols
    relocations: Relocations | None = None


@dataclass(frozen=True)
class KernelImage:
    """A kernel as its file has it. Virtual addresses are link-time addresses; `paddr`s are as linked, too.

    `vmlinuz` is the whole kernel file; `setup_header` its boot header from offset 0x1f1; `vmlinux` the
    decompressed ELF with what follows it; `entry_paddr` the physical address of `startup_64`; `banner` the
    text of /proc/version with its newline; `release` what uname -r says; `build_id` hex of the GNU build id;
    `recovered`: its file has no relocations, so these were found in the code.
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
    recovered: bool = False

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        progress: Progress | None = None,
        given: GivenSymbols | None = None,
        stored: StoredParts | None = None,
    ) -> KernelImage:
        """Read a vmlinuz, an ELF vmlinux, a flat kernel, an ELF with a kernel inside, a `.deb` or `.rpm`
        (0.4 to 1.5 s).

        `given` are symbols from another file, which complete the kernel's own; `stored` is what a store kept
        of the same file. Raises KernelFileError.
        """
        path = Path(path)
        name = str(path)
        report = progress or (lambda _fraction, _text: None)
        report(0.0, "reading")
        vmlinuz = read_vmlinuz(path)
        report(0.3, "decompressing")
        loaded = load_kernel(vmlinuz, name)
        report(0.7, "decoding symbols")
        flat = loaded.flat()
        symbols = stored.symbols if stored else _symbols(loaded, flat, given, name)
        relocations = stored.relocations if stored else None
        found = relocations or _listed_relocations(loaded, flat)
        if found is None:
            report(0.8, "recovering relocations")
            found = recover_relocations(bytes(flat), symbols)
            relocations = found
        banner = _banner(flat, loaded.start_vaddr, symbols, name)
        report(1.0, "done")
        return cls(
            path,
            vmlinuz,
            loaded.setup_header,
            loaded.vmlinux,
            loaded.segments,
            loaded.entry_paddr,
            found,
            symbols,
            banner,
            banner.split()[2],
            _build_id(flat, loaded.start_vaddr, symbols) or _digest(loaded.vmlinux),
            relocations is not None,
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
    def region_constants(self) -> RegionConstants | None:
        """Where the addresses of the kernel's memory regions are in its code; None if they are variables."""
        return find_region_constants(bytes(self._flat), self.symbols)

    @property
    def mapped_size(self) -> int:
        """Bytes from `START_KERNEL_MAP` on in which the kernel can lie: as many as the page table that it is
        linked with maps (KERNEL_IMAGE_SIZE: 512 MiB without CONFIG_RANDOMIZE_BASE, else 1 GiB)."""
        table = self.symbols.get("level2_kernel_pgt")
        if table is None:
            return KERNEL_IMAGE_SIZE
        start = table - self.segments[0].vaddr
        entries = struct.iter_unpack("<Q", self._flat[start : start + PAGE_SIZE])
        return sum(1 for (entry,) in entries if entry & 1) * _LARGE_PAGE_SIZE or KERNEL_IMAGE_SIZE

    @property
    def modules_vaddr(self) -> int:
        """Where the area of its modules begins: behind all that the kernel can lie in (MODULES_VADDR,
        arch/x86/include/asm/pgtable_64_types.h)."""
        return START_KERNEL_MAP + self.mapped_size

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


def _symbols(loaded: LoadedKernel, flat: bytearray, given: GivenSymbols | None, name: str) -> Symbols:
    """The kernel's own symbols; where it names functions only, completed by those `given` or by its ELF's."""
    if given is None and is_elf(loaded.vmlinux):
        static = elf_symbols(loaded.vmlinux)
        given = None if static is None else GivenSymbols(f"{name} (.symtab)", static)
    try:
        own = loaded.symbols or find_symbols(flat, loaded.start_vaddr, name)
    except KernelFileError:
        if given is None:
            raise
        own = Symbols.build([])
    if given is not None and "_end" not in own:
        own = completed(own, given, name)
    if "_end" not in own:
        raise IncompleteKernelError(
            f"{name}: the kernel names its functions only (CONFIG_KALLSYMS_ALL is off); give the System.map "
            "or the vmlinux of its build with --symbols"
        )
    return own


def _listed_relocations(loaded: LoadedKernel, flat: bytearray) -> Relocations | None:
    elf_end = max(segment.file_offset + segment.file_size for segment in loaded.segments)
    start = loaded.start_vaddr
    return parse_relocations(loaded.vmlinux, elf_end, start, start + len(flat))


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
