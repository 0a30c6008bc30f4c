"""A kernel module's file: sections, symbols, relocations, and how the module loader lays out the sections.

A module is read while a system call waits for it. So this is a reader of its own for ELF64 relocatables,
which unpacks all relocations of a section in one call: for the thousands of them in a module a general
library takes a hundred times as long.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from hybridbridge_vol import elf_headers
from hybridbridge_vol.elf_headers import (
    SECTION_HEADER,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_RELA,
    SHT_SYMTAB,
    STB_LOCAL,
    SYMBOL,
)
from hybridbridge_vol.errors import KernelFileError

RELOCATION = struct.Struct("<QQq")
"""Elf64_Rela: offset, symbol << 32 | kind, addend."""
_MAX_SECTIONS = 4096

R_NONE, R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 0, 1, 2, 4, 10, 11, 24
WIDTHS = {R_64: 8, R_PC32: 4, R_PLT32: 4, R_32: 4, R_32S: 4, R_PC64: 8}
"""Bytes that each kind of relocation writes (arch/x86/kernel/module.c, `apply_relocate_add`)."""
RELATIVE = frozenset((R_PC32, R_PLT32, R_PC64))
"""Kinds that are relative to the relocated field itself."""

_RO_AFTER_INIT = (".data..ro_after_init", "__jump_table", ".static_call_sites")
_MOVED = ".static_call_sites"
"""Data, or in later kernels data that is constant after initialisation."""
_NOT_KEPT = (".modinfo", "__versions", "__version_ext_crcs", "__version_ext_names", ".data..percpu")
"""Sections that the loader does not load, or loads elsewhere (kernel/module/main.c,
`rewrite_section_headers`)."""


class Section(NamedTuple):
    """One section, `size` bytes; `data` is empty for one without contents in the file (`.bss`)."""

    number: int
    name: str
    flags: int
    alignment: int
    size: int
    data: memoryview


class Symbol(NamedTuple):
    """`value` counts from the start of section `section`; other modules cannot refer to a symbol that
    `is_local`."""

    name: str
    section: int
    value: int
    size: int
    is_local: bool


class Relocation(NamedTuple):
    """At `offset` in its section: a reference of `kind` to symbol number `symbol`, plus `addend`."""

    offset: int
    kind: int
    symbol: int
    addend: int


class ModuleFile:
    """A `.ko`. KernelFileError, with `name` for the file, if it is not one or is damaged."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        self.sections: list[Section] = []
        self.symbol_table = memoryview(b"")
        """Elf64_Sym, one after the other, as the file has them."""
        self.relocation_tables: dict[int, memoryview] = {}
        """Elf64_Rela, one after the other, by the section that they are of."""
        self._strings = b""
        self._known: dict[int, Symbol] = {}
        self._exported: dict[str, Symbol] | None = None
        try:
            self._read(memoryview(data))
        except (struct.error, IndexError, ValueError) as error:
            raise KernelFileError(f"{name}: not a kernel module for x86-64 ({error})") from None

    def _read(self, data: memoryview) -> None:
        headers, names = _section_headers(data)
        for number, header in enumerate(headers):
            content = _content(data, header)
            self.sections.append(
                Section(
                    number,
                    _text(names, header.name),
                    header.flags,
                    max(header.alignment, 1),
                    header.size,
                    content,
                )
            )
            if header.kind == SHT_SYMTAB:
                if len(content) % SYMBOL.size:
                    raise ValueError("a symbol is truncated")
                self.symbol_table = content
                self._strings = bytes(_content(data, headers[header.link]))
            elif header.kind == SHT_RELA:
                self.relocation_tables[header.info] = content[
                    : header.size // RELOCATION.size * RELOCATION.size
                ]

    @cached_property
    def _symbols(self) -> list[tuple[int, int, int, int, int, int]]:
        return list(SYMBOL.iter_unpack(self.symbol_table))

    @cached_property
    def symbol_offsets(self) -> list[tuple[int, int]]:
        """`(section, value)` of each symbol by its number: what most relocations need of it."""
        return [(section, value) for _, _, _, section, value, _ in self._symbols]

    def symbol_name(self, offset: int) -> str:
        """The name at an offset of the symbols' names. KernelFileError if there is none."""
        try:
            return _text(self._strings, offset)
        except ValueError:
            raise KernelFileError(f"{self._name}: a damaged kernel module (name {offset:#x})") from None

    def name_offsets(self, prefix: str) -> set[int]:
        """Offsets of the symbols' names that begin so. Nothing is made of the others: a package has a million
        of them."""
        return {match.start() for match in re.finditer(re.escape(prefix).encode("latin-1"), self._strings)}

    def symbol(self, number: int) -> Symbol:
        """One symbol; KernelFileError if there is none of that number."""
        found = self._known.get(number)
        if found is None:
            try:
                name, info, _other, section, value, size = self._symbols[number]
                found = Symbol(_text(self._strings, name), section, value, size, info >> 4 == STB_LOCAL)
            except (IndexError, ValueError):
                raise KernelFileError(f"{self._name}: a damaged kernel module (symbol {number})") from None
            self._known[number] = found
        return found

    def symbols(self) -> Iterator[Symbol]:
        """All symbols."""
        return map(self.symbol, range(len(self._symbols)))

    def exported(self, name: str) -> Symbol | None:
        """The symbol that other modules can refer to by that name, so one that is defined here and is not
        local; None if there is none."""
        if self._exported is None:
            numbers = (
                number
                for number, (_name, info, _other, section, _value, _size) in enumerate(self._symbols)
                if info >> 4 != STB_LOCAL and section != SHN_UNDEF
            )
            self._exported = {symbol.name: symbol for symbol in map(self.symbol, numbers)}
        return self._exported.get(name)

    def relocations(self, section: int) -> Iterator[Relocation]:
        """The relocations of a section."""
        for offset, info, addend in self.raw_relocations(section):
            yield Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)

    def raw_relocations(self, section: int) -> Iterator[tuple[int, int, int]]:
        """The same as `relocations`, as Elf64_Rela: `(offset, symbol << 32 | kind, addend)`. A module has
        thousands, and a call waits."""
        return RELOCATION.iter_unpack(self.relocation_tables.get(section, b""))

    def section(self, name: str) -> Section | None:
        """The section of that name; None if there is none."""
        return next((item for item in self.sections if item.name == name), None)

    @property
    def build_id(self) -> str:
        """The GNU build id in hex (the note in `.note.gnu.build-id`); empty if it has none."""
        note = self.section(".note.gnu.build-id")
        return bytes(note.data[16:]).hex() if note else ""

    def facts(self) -> dict[str, str]:
        """The fields of `.modinfo`: `name`, `vermagic`, `depends` …"""
        info = self.section(".modinfo")
        items = bytes(info.data).split(b"\0") if info else []
        return {
            key: value for key, _, value in (item.decode("latin-1").partition("=") for item in items) if key
        }

    # --- how the loader lays out sections -------------------------------------------------------------------

    def text_layout(self) -> tuple[dict[int, int], int]:
        """See `_layout`: the segment of code."""
        return self._layout(SHF_ALLOC | SHF_EXECINSTR, 0)

    def rodata_layout(self) -> tuple[dict[int, int], int]:
        """See `_layout`: the segment of constants."""
        return self._layout(SHF_ALLOC, SHF_WRITE | SHF_EXECINSTR)

    def rest_layout(self, without: Iterable[int]) -> tuple[dict[int, int], int]:
        """`({section: offset}, size)`, one after the other, of all that is loaded but the sections `without`
        and per-CPU data: `.data`, `.bss`, what is for `init_module` only."""
        done = set(without)
        offsets: dict[int, int] = {}
        size = 0
        for item in self.sections:
            if not item.flags & SHF_ALLOC or item.number in done or item.name in _NOT_KEPT:
                continue
            size = -(-size // item.alignment) * item.alignment
            offsets[item.number] = size
            size += item.size
        return offsets, size

    def later_layout(self) -> tuple[dict[int, int], int]:
        """See `_layout`: the segment of data that is constant after initialisation."""
        return self._layout(SHF_ALLOC, 0, later=True)

    def data_layout(self) -> tuple[dict[int, int], int]:
        """See `_layout`: the segment of data."""
        return self._layout(SHF_ALLOC | SHF_WRITE, SHF_EXECINSTR)

    def _layout(self, wanted: int, unwanted: int, later: bool = False) -> tuple[dict[int, int], int]:
        """`({section: offset}, size)` of a segment: the sections that the loader lays out one after the other
        (kernel/module/main.c, `layout_sections`). `later`: those of `_RO_AFTER_INIT`, else all others. Data
        ends before `_MOVED`, as what comes behind it lies elsewhere in other kernels."""
        offsets: dict[int, int] = {}
        size = 0
        for item in self.sections:
            if item.name == _MOVED and (later or wanted & SHF_WRITE):
                break
            if item.flags & wanted != wanted or item.flags & unwanted or item.name.startswith(".init"):
                continue
            if (item.name in _RO_AFTER_INIT) != later or item.name in _NOT_KEPT:
                continue
            size = -(-size // item.alignment) * item.alignment
            offsets[item.number] = size
            size += item.size
        return offsets, size


def _section_headers(data: memoryview) -> tuple[list[elf_headers.Section], bytes]:
    """The section headers, and the table of section names. ValueError, IndexError or struct.error if `data`
    is not a whole ELF64 relocatable for x86-64."""
    elf = elf_headers.ElfHeader.of(data)
    is_module = (elf.kind, elf.machine) == (elf_headers.ET_REL, elf_headers.EM_X86_64)
    if not elf.identity.startswith(elf_headers.MAGIC) or not is_module:
        raise ValueError("not a relocatable ELF")
    start = elf.sections_offset
    end = start + SECTION_HEADER.size * elf.section_count
    if not 0 < elf.section_count <= _MAX_SECTIONS or end > len(data):
        raise ValueError("truncated")
    headers = list(elf_headers.sections(data[start:end]))
    if any(header.kind != SHT_NOBITS and header.offset + header.size > len(data) for header in headers):
        raise ValueError("truncated")
    return headers, bytes(_content(data, headers[elf.names_section]))


def _content(data: memoryview, header: elf_headers.Section) -> memoryview:
    """A section's bytes in the file."""
    return data[header.offset : header.offset + header.size] if header.kind != SHT_NOBITS else data[:0]


def release_of(vermagic: str) -> str:
    """The kernel release that a module is for: the first word of `vermagic`."""
    return vermagic.split(" ", 1)[0]


def module_name(path: str) -> str:
    """A module's name, from its file's: `nf_conntrack` of `kernel/net/netfilter/nf-conntrack.ko.xz`."""
    return re.sub(r"\.ko(\.\w+)?$", "", path.rsplit("/", 1)[-1]).replace("-", "_")


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode("latin-1")
