"""Kernel modules as files, from the packages of real kernels, and hostile variants of one."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.module import ModuleFile, module_name, release_of
from hybridbridge_vol.trust.modules import keep, load, module_files, names, release
from samples.kernels import modules_package

NAME = "nf_conntrack"


@cache
def module_of(package: Path) -> bytes:
    return next(data for name, data in module_files(package) if name == NAME)


def test_sections_symbols_and_relocations_are_those_that_a_general_library_reads(
    kernel_packages: list[Path],
) -> None:
    data = module_of(kernel_packages[1])
    mine, theirs = ModuleFile(data, NAME), ELFFile(io.BytesIO(data))
    assert [(item.name, item.size, item.flags) for item in mine.sections] == [
        (item.name, item["sh_size"], item["sh_flags"]) for item in theirs.iter_sections()
    ]
    symbols = theirs.get_section_by_name(".symtab")
    assert isinstance(symbols, SymbolTableSection)
    assert [(item.name, item.value) for item in mine.symbols()] == [
        (item.name if item["st_name"] else "", item["st_value"]) for item in symbols.iter_symbols()
    ]
    for section in theirs.iter_sections():
        if isinstance(section, RelocationSection):
            assert [tuple(item) for item in mine.relocations(section["sh_info"])] == [
                (item["r_offset"], item["r_info_type"], item["r_info_sym"], item["r_addend"])
                for item in section.iter_relocations()
            ]


def test_names_are_found_by_their_beginning_and_symbols_by_their_scope(kernel_packages: list[Path]) -> None:
    module = ModuleFile(module_of(kernel_packages[1]), NAME)
    exported = {one.name for one in module.symbols() if one.name.startswith("__ksymtab_")}
    assert len(exported) > 10
    assert exported == {module.symbol_name(offset) for offset in module.name_offsets("__ksymtab_")}
    assert not module.name_offsets("no such")
    for one in module.symbols():
        if one.name:
            assert (module.exported(one.name) == one) == (not one.is_local and one.section != 0)


def test_a_module_says_its_name_its_kernel_and_what_it_exports(kernel_packages: list[Path]) -> None:
    for package in map(modules_package, kernel_packages):
        module = ModuleFile(module_of(package), NAME)
        facts = module.facts()
        assert facts["name"] == NAME
        assert release_of(facts["vermagic"]) == release(package)
        assert len(module.build_id) == 40
        found = module.exported("nf_conntrack_find_get")
        assert found is not None
        assert module.sections[found.section].name.startswith(".text")
        assert module.exported("kmalloc_caches") is None


@given(st.data())
def test_a_damaged_module_is_reported_or_read(data: Any) -> None:
    whole = bytearray(small_module())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    for damaged in (whole, cut):
        try:
            module = ModuleFile(bytes(damaged), "a file")
            list(module.symbols())
            for section in module.sections:
                for item in module.relocations(section.number):
                    module.symbol(item.symbol)
        except KernelFileError as error:
            assert str(error).startswith("a file: ")
            assert "\n" not in str(error)


@cache
def small_module() -> bytes:
    """A relocatable with a section of code, one symbol and one relocation."""
    import struct

    names = b"\0.text\0.rela.text\0.symtab\0.strtab\0.shstrtab\0"
    strings = b"\0other\0"
    code, rela = b"\xe8\0\0\0\0\xc3", struct.pack("<QQq", 1, 1 << 32 | 4, -4)
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x10, 0, 0, 0, 0)
    parts = [b"", code, rela, symbols, strings, names]
    offsets, place = [], 64
    for part in parts:
        offsets.append(place)
        place += len(part)
    kinds = [(0, 0, 0, 0), (1, 6, 0, 0), (4, 0, 3, 1), (2, 0, 4, 1), (3, 0, 0, 0), (3, 0, 0, 0)]
    headers = b""
    for title, (kind, flags, link, info), part, offset in zip(
        ("", ".text", ".rela.text", ".symtab", ".strtab", ".shstrtab"), kinds, parts, offsets, strict=True
    ):
        at = names.index(title.encode() + b"\0")
        headers += struct.pack("<IIQQQQIIQQ", at, kind, flags, 0, offset, len(part), link, info, 1, 0)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, place, 0, 64, 0, 0, 64, 6, 5)
    )
    return head + b"".join(parts) + headers


def test_the_small_module_is_a_module() -> None:
    module = ModuleFile(small_module(), "a file")
    assert [tuple(item) for item in module.relocations(1)] == [(1, 4, 1, -4)]
    assert module.symbol(1).name == "other"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("nf_conntrack.ko", "nf_conntrack"),
        ("kernel/crypto/sha1-ssse3.ko.xz", "sha1_ssse3"),
        ("a/b.ko.zst", "b"),
    ],
)
def test_a_modules_name_is_that_of_its_file(path: str, name: str) -> None:
    assert module_name(path) == name


def test_modules_are_stored_extended_and_read_back(tmp_path: Path) -> None:
    assert keep(tmp_path, [("one", small_module())]) == 1
    assert keep(tmp_path, [("two", b"no module")]) == 1
    assert sorted(names(tmp_path)) == ["one", "two"]
    assert load(tmp_path, "one") is not None
    assert load(tmp_path, "two") is None
    assert load(tmp_path, "three") is None
    assert [path.name for path in tmp_path.iterdir()] == ["modules.zip"]


def test_a_damaged_archive_of_modules_has_none(tmp_path: Path) -> None:
    keep(tmp_path, [("one", small_module())])
    archive = tmp_path / "modules.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    assert names(tmp_path) == []
    assert load(tmp_path, "one") is None
