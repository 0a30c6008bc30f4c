"""A kernel module's file: sections, symbols and relocations, and where the module loader puts its sections.

An own reader of ELF64 relocatables, 24 bytes a relocation in one `struct` call: a module is read while a
system call waits for it, and a general library takes a hundred times as long for the thousands of relocations
of one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import KernelFileError

SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
SHN_UNDEF, SHN_ABS, SHN_LORESERVE = 0, 0xFFF1, 0xFF00
_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 2, 4, 8
_ET_REL, _EM_X86_64 = 1, 62
_STB_LOCAL = 0
_RELA_SIZE = 24
_MAX_SECTIONS = 4096

R_NONE, R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 0, 1, 2, 4, 10, 11, 24
WIDTHS = {R_64: 8, R_PC32: 4, R_PLT32: 4, R_32: 4, R_32S: 4, R_PC64: 8}
"""Bytes that a relocation writes (arch/x86/kernel/module.c, `apply_relocate_add`)."""
RELATIVE = frozenset((R_PC32, R_PLT32, R_PC64))
"""Those that count from their own place."""

_RO_AFTER_INIT = (".data..ro_after_init", "__jump_table", ".static_call_sites")
_NOT_KEPT = (".modinfo", "__versions", "__version_ext_crcs", "__version_ext_names", ".data..percpu")
"""Sections that the loader keeps for itself, or places elsewhere (kernel/module/main.c,
`rewrite_section_headers`)."""


class Section(NamedTuple):
    """One section of the file; `data` is empty for one that only takes room."""

    number: int
    name: str
    flags: int
    alignment: int
    size: int
    data: memoryview


class Symbol(NamedTuple):
    """`value` counts from the start of section `section`; `is_local` symbols are not seen by other
    modules."""

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
    """A `.ko`. KernelFileError, with `name` for the file, if it is none or damaged."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        try:
            self._read(memoryview(data))
        except (struct.error, IndexError, ValueError) as error:
            raise KernelFileError(f"{name}: not a kernel module for x86-64 ({error})") from None

    def _read(self, data: memoryview) -> None:
        kind, machine = struct.unpack_from("<HH", data, 16)
        if bytes(data[:6]) != b"\x7fELF\x02\x01" or (kind, machine) != (_ET_REL, _EM_X86_64):
            raise ValueError("not a relocatable ELF")
        (headers,) = struct.unpack_from("<Q", data, 40)
        count, names_index = struct.unpack_from("<HH", data, 60)
        if not 0 < count <= _MAX_SECTIONS or headers + 64 * count > len(data):
            raise ValueError("truncated")
        raw = list(struct.iter_unpack("<IIQQQQIIQQ", data[headers : headers + 64 * count]))
        for _name, kind, _flags, _address, offset, size, *_rest in raw:
            if kind != _SHT_NOBITS and offset + size > len(data):
                raise ValueError("truncated")
        names = bytes(data[raw[names_index][4] :][: raw[names_index][5]])
        self.sections: list[Section] = []
        self._relocations: dict[int, memoryview] = {}
        self._symbols: list[tuple[int, int, int, int, int, int]] = []
        self.symbol_places: list[tuple[int, int]] = []
        """`(section, value)` of each symbol by its number: what most relocations need of it."""
        self._strings = b""
        self._named: dict[int, Symbol] = {}
        self._exported: dict[str, Symbol] | None = None
        for index, (name, kind, flags, _address, offset, size, link, info, alignment, _entry) in enumerate(
            raw
        ):
            content = data[offset : offset + size] if kind != _SHT_NOBITS else data[:0]
            self.sections.append(Section(index, _text(names, name), flags, max(alignment, 1), size, content))
            if kind == _SHT_SYMTAB:
                self._symbols = list(struct.iter_unpack("<IBBHQQ", content))
                self.symbol_places = [
                    (section, value) for _name, _info, _other, section, value, _size in self._symbols
                ]
                self._strings = bytes(data[raw[link][4] :][: raw[link][5]])
            elif kind == _SHT_RELA:
                self._relocations[info] = content[: size // _RELA_SIZE * _RELA_SIZE]

    def symbol(self, number: int) -> Symbol:
        """One symbol; KernelFileError if there is none of that number."""
        found = self._named.get(number)
        if found is None:
            try:
                name, info, _other, section, value, size = self._symbols[number]
                found = Symbol(_text(self._strings, name), section, value, size, info >> 4 == _STB_LOCAL)
            except (IndexError, ValueError):
                raise KernelFileError(f"{self._name}: a damaged kernel module (symbol {number})") from None
            self._named[number] = found
        return found

    def symbols(self) -> Iterator[Symbol]:
        """All symbols."""
        return map(self.symbol, range(len(self._symbols)))

    def exported(self, name: str) -> Symbol | None:
        """The symbol that other modules know by that name."""
        if self._exported is None:
            numbers = (
                number for number, (_name, info, _other, section, _value, _size) in enumerate(self._symbols)
                if info >> 4 != _STB_LOCAL and section != SHN_UNDEF
            )  # fmt: skip
            self._exported = {symbol.name: symbol for symbol in map(self.symbol, numbers)}
        return self._exported.get(name)

    def relocations(self, section: int) -> Iterator[Relocation]:
        """What is to be filled in in a section."""
        for offset, info, addend in self.raw_relocations(section):
            yield Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)

    def raw_relocations(self, section: int) -> Iterator[tuple[int, int, int]]:
        """The same as Elf64_Rela: `(offset, symbol << 32 | kind, addend)`. A module has thousands, and a call
        waits."""
        return struct.iter_unpack("<QQq", self._relocations.get(section, b""))

    def section(self, name: str) -> Section | None:
        """The section of that name."""
        return next((item for item in self.sections if item.name == name), None)

    @property
    def build_id(self) -> str:
        """Of the file itself, in hex; empty if it has none (SHF note of `.note.gnu.build-id`)."""
        note = self.section(".note.gnu.build-id")
        return bytes(note.data[16:]).hex() if note else ""

    def facts(self) -> dict[str, str]:
        """What `.modinfo` says: `name`, `vermagic`, `depends` …"""
        info = self.section(".modinfo")
        items = bytes(info.data).split(b"\0") if info else []
        return {
            key: value for key, _, value in (item.decode("latin-1").partition("=") for item in items) if key
        }

    # --- where the loader puts sections -------------------------------------------------------------------

    def text_layout(self) -> tuple[dict[int, int], int]:
        """See `_layout`: the sections of code."""
        return self._layout(SHF_ALLOC | SHF_EXECINSTR, 0)

    def rodata_layout(self) -> tuple[dict[int, int], int]:
        """See `_layout`: constants."""
        return self._layout(SHF_ALLOC, SHF_WRITE | SHF_EXECINSTR)

    def _layout(self, wanted: int, unwanted: int) -> tuple[dict[int, int], int]:
        """`({section: offset}, size)` of a group of sections as the loader lays them out, one behind the
        other (kernel/module/main.c, `layout_sections`)."""
        places: dict[int, int] = {}
        size = 0
        for item in self.sections:
            if item.flags & wanted != wanted or item.flags & unwanted or item.name.startswith(".init"):
                continue
            if item.name in _RO_AFTER_INIT or item.name in _NOT_KEPT:
                continue
            size = -(-size // item.alignment) * item.alignment
            places[item.number] = size
            size += item.size
        return places, size


def release_of(vermagic: str) -> str:
    """The kernel's release that a module is for: `vermagic` begins with it."""
    return vermagic.split(" ", 1)[0]


def module_name(path: str) -> str:
    """A module's name by its file's: `nf_conntrack` of `kernel/net/netfilter/nf-conntrack.ko.xz`."""
    return re.sub(r"\.ko(\.\w+)?$", "", path.rsplit("/", 1)[-1]).replace("-", "_")


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode("latin-1")
