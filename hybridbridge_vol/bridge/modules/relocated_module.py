"""A module of the snapshot, made from its trusted file: its segments of code and of constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from hybridbridge_vol.bridge.memo import Proven
from hybridbridge_vol.bridge.modules.extents import Extent, Extents
from hybridbridge_vol.bridge.modules.locate import exported_vaddr
from hybridbridge_vol.bridge.modules.traps import FixUp
from hybridbridge_vol.bridge.text.call_hashes import CallHashes, change_hashes, hash_places
from hybridbridge_vol.bridge.text.static_keys import JumpLabels
from hybridbridge_vol.kernel_file.module import RELATIVE, WIDTHS, ModuleFile


class Reference(NamedTuple):
    """A field that refers to a symbol which is not in the module's file: the symbol's name, the kind of the
    relocation and its addend."""

    name: str
    kind: int
    addend: int

    def field(self, symbol_vaddr: int, field_vaddr: int) -> bytes:
        """The bytes of the field, at `field_vaddr`, if its symbol is at `symbol_vaddr`."""
        width = WIDTHS[self.kind]
        value = symbol_vaddr + self.addend - (field_vaddr if self.kind in RELATIVE else 0)
        return (value & (1 << 8 * width) - 1).to_bytes(width, "little")


@dataclass
class Segment:
    """Sections of a module that lie together, of code or of constants, relocated to where the snapshot has
    them.

    `vaddr` is its virtual address in the snapshot, `content` whole pages of trusted bytes. By offset in it:
    `references` are the fields that refer to symbols of the kernel or of other modules, `per_cpu` the fields
    that refer to the module's own per-CPU variables, `as_loaded` what was in the fields that were redirected
    for our own runs.
    """

    vaddr: int
    content: bytearray
    references: dict[int, Reference] = field(default_factory=dict)
    per_cpu: list[int] = field(default_factory=list)
    as_loaded: dict[int, bytes] = field(default_factory=dict)

    @property
    def vaddrs(self) -> range:
        """Virtual addresses in the snapshot."""
        return range(self.vaddr, self.vaddr + len(self.content))

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at an offset."""
        self.content[offset : offset + len(data)] = data


@dataclass
class RelocatedModule:
    """A module of the snapshot, made from its file. `sections` are virtual addresses by section number;
    `rodata` is None if it was not found. `warnings` are the virtual addresses of its WARNs, `fix_ups` where
    to go on after a fault of an instruction, by its virtual address, `hashes` the offsets in the code of the
    hashes in front of its functions."""

    name: str
    file: ModuleFile
    sections: dict[int, int]
    text: Segment
    rodata: Segment | None
    labels: JumpLabels
    warnings: frozenset[int]
    fix_ups: dict[int, FixUp]
    hashes: list[int] = field(default_factory=list)

    @property
    def segments(self) -> list[Segment]:
        """Code, and constants if they were found."""
        return [self.text] if self.rodata is None else [self.text, self.rodata]

    def take_hashes(self, kernel: CallHashes) -> None:
        """Find the hashes in front of its functions, and let them be as the booted kernel would have them."""
        if not kernel.distances:
            return
        functions = (
            self.sections[symbol.section] + symbol.value - self.text.vaddr
            for symbol in self.file.symbols()
            if symbol.section in self.sections
        )
        self.hashes = hash_places(self.text.content, functions, kernel.distances)
        if kernel.seed:
            change_hashes(self.text.content, self.hashes, kernel.seed)

    def symbol_vaddr(self, name: str) -> int | None:
        """Virtual address of a symbol that the module exports; None if it does not export it."""
        return exported_vaddr(self.file, self.sections, name)

    def describe(self, vaddr: int) -> str:
        """The function at an address of the code, as `name+0x10`."""
        found = self._extents.around(vaddr)
        name, start = (self.name, self.text.vaddr) if found is None else (found.name, found.start)
        return f"{name}+{vaddr - start:#x}"

    @cached_property
    def _extents(self) -> Extents:
        """Where its symbols lie: a module may have thousands of them, and is asked for as many addresses."""
        return Extents(
            Extent(self.sections[symbol.section] + symbol.value, symbol.size, number, symbol.name)
            for number, symbol in enumerate(self.file.symbols())
            if symbol.size and symbol.section in self.sections
        )


class TrustedSegment(NamedTuple):
    """A segment of a module as the bridge maps it. `twin_offset` is its position behind the twin, counted as
    the twin's pages are, from `_text`; `proven` is what is proven of it, by offset in the segment.
    `data_paddr` is where the memory of an added module's data is, which its code may write to; None for code
    and constants."""

    module: RelocatedModule
    segment: Segment
    twin_offset: int
    executable: bool
    proven: Proven
    data_paddr: int | None = None

    @property
    def vaddrs(self) -> range:
        """Virtual addresses in the snapshot."""
        return self.segment.vaddrs

    def twin_offset_of(self, vaddr: int) -> int:
        """The position behind the twin of a virtual address of the segment."""
        return self.twin_offset + vaddr - self.segment.vaddr
