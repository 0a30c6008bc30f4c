"""A module's trusted file, relocated to where the snapshot has the module."""

from __future__ import annotations

from hybridbridge_vol.bridge.modules.locate import RELOCATION_KINDS, Location, Read, Resolve
from hybridbridge_vol.bridge.modules.relocated_module import Reference, RelocatedModule, Segment
from hybridbridge_vol.bridge.modules.tables import jump_labels, traps
from hybridbridge_vol.bridge.modules.unwind import sort_unwind_tables
from hybridbridge_vol.elf_headers import SHN_ABS, SHN_UNDEF
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.machine.memory import page_up

NOWHERE_VADDR = 0xFFFF_FFFF_FFFF_F000
"""What a reference leads to whose symbol is not known: the last page, which nothing is mapped at."""

BREAKPOINT, _CALL = 0xCC, 0xE8
_NOP5 = b"\x0f\x1f\x44\x00\x00"
_PER_CPU_SECTION = ".data..percpu"
_FENTRY = "__fentry__"
_Named = tuple[Reference, int | None]


def relocate(found: Location, read: Read, resolve: Resolve) -> RelocatedModule:
    """The module's trusted code and constants, relocated to where the snapshot has them. KernelFileError if
    the file is damaged."""
    file, relocator = found.file, Relocator(found.file, found.sections, resolve)
    text = Segment(found.text_vaddr, bytearray([BREAKPOINT]) * page_up(found.text_size))
    relocator.fill(text, file.text_layout()[0], read(text.vaddr, found.text_size))
    rodata = None
    if found.rodata_vaddr is not None:
        layout = file.rodata_layout()[0]
        rodata = Segment(found.rodata_vaddr, bytearray(page_up(found.rodata_size)))
        relocator.fill(rodata, layout, read(rodata.vaddr, found.rodata_size))
        sort_unwind_tables(file, layout, rodata.content)
    labels = jump_labels(file, text, found.sections, resolve)
    warnings, fix_ups = traps(file, text, found.sections, resolve)
    return RelocatedModule(found.name, file, found.sections, text, rodata, labels, warnings, fix_ups)


class Relocator:
    """Fills segments of one module."""

    def __init__(self, file: ModuleFile, sections: dict[int, int], resolve: Resolve) -> None:
        self._file = file
        self._sections = sections
        self._resolve = resolve
        per_cpu = file.section(_PER_CPU_SECTION)
        self._per_cpu_section = None if per_cpu is None else per_cpu.number
        self._plain = [self._plain_vaddr(section, value) for section, value in file.symbol_offsets]
        """By a symbol's number its address; None of one that is not in the file, and of per-CPU variables."""
        self._named: dict[tuple[int, int], _Named] = {}
        """References to symbols that are not in the file, by info and addend of their relocations."""

    def _plain_vaddr(self, section: int, value: int) -> int | None:
        if section in (SHN_UNDEF, self._per_cpu_section):
            return None
        # an absolute value counts from nowhere
        return value if section == SHN_ABS else self._sections.get(section, NOWHERE_VADDR) + value

    def fill(self, segment: Segment, layout: dict[int, int], loaded: bytes) -> None:
        """Put the file's sections into a segment and relocate them. `layout` are their offsets by section
        number, `loaded` the snapshot's bytes of the segment."""
        for index, start in layout.items():
            data = self._file.sections[index].data
            segment.content[start : start + len(data)] = data
        for index, start in layout.items():
            self._relocate_section(segment, index, start, loaded)

    def _relocate_section(self, segment: Segment, index: int, start: int, loaded: bytes) -> None:
        # a module has tens of thousands of these, and a call waits
        content, size, vaddr = segment.content, len(segment.content), segment.vaddr
        plain, named = self._plain, self._named
        count, kinds = len(plain), RELOCATION_KINDS
        for offset, info, addend in self._file.raw_relocations(index):
            kind = kinds.get(info & 0xFFFFFFFF)
            offset += start
            if kind is None or offset + kind.width > size:
                continue
            symbol = info >> 32
            value = plain[symbol] if symbol < count else None
            if value is None:
                value = self._per_cpu_vaddr(segment, offset, symbol)
            if value is None:
                reference, value = named.get((info, addend)) or self._reference(info, addend)
                if value is None:
                    self._fill_reference(segment, offset, reference, loaded)
                    continue
                segment.references[offset] = reference
            value += addend
            kind.write(content, offset, (value - vaddr - offset if kind.is_relative else value) & kind.mask)

    def _per_cpu_vaddr(self, segment: Segment, offset: int, symbol: int) -> int | None:
        """The address of a per-CPU variable of the module's own, which the field at an offset refers to; None
        if it is none."""
        symbols = self._file.symbol_offsets
        section, value = symbols[symbol] if symbol < len(symbols) else (SHN_UNDEF, 0)
        if section != self._per_cpu_section:
            return None
        segment.per_cpu.append(offset)
        return value + self._sections.get(section, NOWHERE_VADDR)

    def _reference(self, info: int, addend: int) -> _Named:
        """The reference of a relocation to a symbol that is not in the file, and the symbol's address: None
        where the field itself decides."""
        name = self._file.symbol(info >> 32).name
        addresses = self._resolve(name) or [NOWHERE_VADDR]
        only = addresses[0] if len(addresses) == 1 and name != _FENTRY else None
        found = self._named[info, addend] = Reference(name, info & 0xFFFFFFFF, addend), only
        return found

    def _fill_reference(self, segment: Segment, offset: int, reference: Reference, loaded: bytes) -> None:
        """Fill in a field that refers to a symbol which is not in the file. Of several symbols of that name
        it is the one that the snapshot's copy of the module refers to."""
        if reference.name == _FENTRY and offset and segment.content[offset - 1] == _CALL:
            segment.write(offset - 1, _NOP5)  # as ftrace leaves it
            return
        addresses = self._resolve(reference.name) or [NOWHERE_VADDR]
        fields = [reference.field(address, segment.vaddr + offset) for address in addresses]
        data = loaded[offset : offset + len(fields[0])]
        segment.write(offset, data if data in fields else fields[0])
        segment.references[offset] = reference
