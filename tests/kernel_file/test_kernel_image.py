"""A kernel file as a whole, in miniature: from a vmlinuz or a package to segments, symbols and names."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_makers import (
    BANNER,
    BUILD_ID,
    COMPRESSORS,
    CONFIG,
    LAYOUTS,
    START_KERNEL_MAP,
    TEXT_VADDR,
    Layout,
    MiniKernel,
    bzimage,
    elf,
    library,
    with_symbol_table,
)
from package_makers import deb, rpm

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.kernel import KernelImage, Segment, parse_elf
from hybridbridge_vol.kernel_file.symbol_files import read_symbol_file

TEXT_PADDR = TEXT_VADDR - START_KERNEL_MAP


def loaded(tmp_path: Path, data: bytes) -> KernelImage:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    return KernelImage.from_file(path)


@pytest.mark.parametrize("method", sorted(COMPRESSORS))
def test_a_vmlinuz_is_parsed(tmp_path: Path, method: str) -> None:
    mini = MiniKernel()
    kernel = loaded(tmp_path, mini.vmlinuz(method))
    assert kernel.banner == BANNER
    assert kernel.release == "6.6.6-test"
    assert kernel.build_id == BUILD_ID.hex()
    assert kernel.config == CONFIG
    assert kernel.entry_paddr == TEXT_PADDR
    assert kernel.vmlinux == mini.vmlinux()
    assert [segment.vaddr for segment in kernel.segments] == [TEXT_VADDR, TEXT_VADDR + 0x100000]
    assert list(kernel.symbols) == mini.symbols()
    assert kernel.relocations.abs32.tolist() == sorted(mini.abs32)
    assert kernel.relocations.inverse32.tolist() == sorted(mini.inverse32 or [])
    assert kernel.relocations.abs64.tolist() == sorted(mini.abs64)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_neither_layout_nor_lists_are_assumed(tmp_path: Path, layout: Layout) -> None:
    mini = MiniKernel(layout, inverse32=None)
    kernel = loaded(tmp_path, mini.vmlinuz())
    assert list(kernel.symbols) == mini.symbols()
    assert kernel.relocations.inverse32.tolist() == []
    assert kernel.relocations.abs64.tolist() == sorted(mini.abs64)


@pytest.mark.parametrize("make", [deb, rpm])
def test_a_package_gives_the_same_kernel(tmp_path: Path, make: Callable[..., bytes]) -> None:
    vmlinuz = MiniKernel().vmlinuz("zstd")
    kernel = loaded(
        tmp_path, make([("boot/config", 0o100644, b"no"), ("boot/vmlinuz-6.6.6", 0o100644, vmlinuz)])
    )
    assert kernel.vmlinuz == vmlinuz
    assert kernel.release == "6.6.6-test"


def test_the_flat_image_has_every_segment_at_its_offset(tmp_path: Path) -> None:
    mini = MiniKernel()
    flat = loaded(tmp_path, mini.vmlinuz()).flat()
    text = mini.text_segment()
    assert len(flat) == 0x200000
    assert flat[: len(text)] == text
    assert flat[0x100000 : 0x100000 + 64] == b"DATA" * 16
    assert not any(flat[0x100000 + 64 :])
    assert not any(flat[len(text) : 0x100000])


def test_without_a_build_id_the_digest_of_the_kernel_names_it(tmp_path: Path) -> None:
    class Nameless(MiniKernel):
        def notes(self) -> bytes:
            return super().notes().replace(b"GNU\0", b"FOO\0")

    kernel = loaded(tmp_path, Nameless().vmlinuz())
    assert kernel.build_id == hashlib.sha256(kernel.vmlinux).hexdigest()[:40]


def test_without_a_built_in_config_there_is_none(tmp_path: Path) -> None:
    class Silent(MiniKernel):
        def text_segment(self) -> bytes:
            return super().text_segment().replace(b"IKCFG_ST", b"IKCFG_??")

    assert loaded(tmp_path, Silent().vmlinuz()).config is None


def test_progress_rises_from_nothing_to_all(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(MiniKernel().vmlinuz())
    error_text: list[float] = []
    KernelImage.from_file(path, lambda fraction, _text: error_text.append(fraction))
    assert error_text[0] == 0.0
    assert error_text[-1] == 1.0
    assert error_text == sorted(error_text)


def test_a_bare_kernel_without_relocations_gets_those_that_its_data_show(tmp_path: Path) -> None:
    mini = MiniKernel()
    kernel = loaded(tmp_path, mini.vmlinux()[: -len(mini.relocations())])
    assert kernel.recovered
    assert set(mini.abs64) <= set(kernel.relocations.abs64)


class WithPageTable(MiniKernel):
    """Has the table of large pages that it begins to run with, as arch/x86/kernel/head_64.S writes it."""

    table_vaddr, pages = TEXT_VADDR + 0x8000, 0

    def symbols(self) -> list[tuple[int, str, str]]:
        return sorted([*super().symbols(), (self.table_vaddr, "D", "level2_kernel_pgt")])

    def text_segment(self) -> bytes:
        image, start = bytearray(super().text_segment()), self.table_vaddr - TEXT_VADDR
        entries = [number << 21 | 0x1E3 for number in range(self.pages)]
        image[start : start + 8 * len(entries)] = struct.pack(f"<{len(entries)}Q", *entries)
        return bytes(image)


@pytest.mark.parametrize(
    ("pages", "modules"),
    [(512, 0xFFFF_FFFF_C000_0000), (256, 0xFFFF_FFFF_A000_0000)],
    ids=["with", "without"],
)
def test_modules_lie_behind_what_the_kernels_first_page_table_maps(
    tmp_path: Path, pages: int, modules: int
) -> None:
    """With CONFIG_RANDOMIZE_BASE, and without."""
    mini = WithPageTable()
    mini.pages = pages
    assert loaded(tmp_path, mini.vmlinuz()).modules_vaddr == modules


def test_a_kernel_whose_first_page_table_has_no_name_has_its_modules_where_most_have(tmp_path: Path) -> None:
    assert loaded(tmp_path, MiniKernel().vmlinuz()).modules_vaddr == 0xFFFF_FFFF_C000_0000


def test_a_kernel_in_a_shared_library_is_found_as_it_lies_in_memory(tmp_path: Path) -> None:
    mini = MiniKernel()
    path = tmp_path / "libkrunfw.so"
    path.write_bytes(
        library({"small": b"x" * 100, "KERNEL": mini.text_segment().ljust(0x100000 + 64, b"\0")})
    )
    kernel = KernelImage.from_file(path)
    assert kernel.banner == BANNER
    assert kernel.entry_paddr == TEXT_PADDR
    assert list(kernel.symbols) == mini.symbols()
    assert [segment.vaddr for segment in kernel.segments] == [TEXT_VADDR]
    assert len(kernel.flat()) == 0x200000


@pytest.mark.parametrize("content", [b"", b"x" * (2 << 20), b"Linux version 6".ljust(2 << 20, b"\0")])
def test_a_shared_library_without_a_kernel_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "libx.so"
    path.write_bytes(library({"data": content}))
    with pytest.raises(KernelFileError, match=f"^{path}: .*give"):
        KernelImage.from_file(path)


class FunctionsOnly(MiniKernel):
    """Built without CONFIG_KALLSYMS_ALL."""

    def symbols(self) -> list[tuple[int, str, str]]:
        return [symbol for symbol in super().symbols() if symbol[1] in "tT"]


def system_map(symbols: list[tuple[int, str, str]]) -> bytes:
    """A System.map (nm -n)."""
    return "".join(f"{address:016x} {kind} {name}\n" for address, kind, name in symbols).encode()


def test_symbols_that_a_kernel_lacks_come_from_its_system_map(tmp_path: Path) -> None:
    kernel, whole = FunctionsOnly(), MiniKernel()
    (tmp_path / "System.map").write_bytes(system_map(whole.symbols()))
    (tmp_path / "vmlinuz").write_bytes(kernel.vmlinuz())
    given = read_symbol_file(tmp_path / "System.map")
    read = KernelImage.from_file(tmp_path / "vmlinuz", given=given)
    assert sorted(read.symbols) == sorted(whole.symbols())
    assert read.banner == BANNER
    with pytest.raises(KernelFileError, match=r"vmlinuz: the kernel names its functions only .*--symbols$"):
        KernelImage.from_file(tmp_path / "vmlinuz")


def test_symbols_that_a_kernel_lacks_come_from_a_vmlinux(tmp_path: Path) -> None:
    whole = MiniKernel()
    (tmp_path / "vmlinux").write_bytes(with_symbol_table(whole.vmlinux(), whole.symbols()))
    (tmp_path / "vmlinuz").write_bytes(FunctionsOnly().vmlinuz())
    given = read_symbol_file(tmp_path / "vmlinux")
    read = KernelImage.from_file(tmp_path / "vmlinuz", given=given)
    assert {(vaddr, name) for vaddr, _, name in read.symbols} == {(v, n) for v, _, n in whole.symbols()}


def test_a_vmlinux_that_is_not_stripped_brings_its_own_symbols(tmp_path: Path) -> None:
    whole = MiniKernel()
    kernel = loaded(tmp_path, with_symbol_table(FunctionsOnly().vmlinux(), whole.symbols()))
    assert {(vaddr, name) for vaddr, _, name in kernel.symbols} == {(v, n) for v, _, n in whole.symbols()}


def test_a_system_map_of_another_build_is_refused(tmp_path: Path) -> None:
    moved = [(vaddr + 16, kind, name) for vaddr, kind, name in MiniKernel().symbols()]
    (tmp_path / "System.map").write_bytes(system_map(moved))
    (tmp_path / "vmlinuz").write_bytes(FunctionsOnly().vmlinuz())
    given = read_symbol_file(tmp_path / "System.map")
    with pytest.raises(
        KernelFileError, match=r"System\.map: not of the build of .*vmlinuz: \d+ of \d+"
    ) as caught:
        KernelImage.from_file(tmp_path / "vmlinuz", given=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n",
        b"",
        b"\x7fELF\2\1\1" + bytes(200),
        bytes(5000),
    ],
)
def test_a_file_without_symbols_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "System.map"
    path.write_bytes(content)
    with pytest.raises(KernelFileError, match=f"^{path}: has no table of symbols; give"):
        read_symbol_file(path)


def test_a_kernel_whose_banner_is_not_where_it_should_be_is_refused(tmp_path: Path) -> None:
    class Mute(MiniKernel):
        def text_segment(self) -> bytes:
            return super().text_segment().replace(b"Linux version", b"Other version")

    with pytest.raises(KernelFileError, match="no banner"):
        loaded(tmp_path, Mute().vmlinuz())


def segment_fields(**changes: int) -> bytes:
    """An ELF of one good segment with some of its header's fields changed."""
    data = bytearray(elf([(0x1000, TEXT_VADDR, TEXT_PADDR, b"text" * 100, 0x1000)], TEXT_PADDR))
    places = {
        "table": 32,
        "entry_size": 54,
        "count": 56,
        "offset": 72,
        "vaddr": 80,
        "paddr": 88,
        "file_size": 96,
        "mem_size": 104,
    }
    for name, value in changes.items():
        struct.pack_into("<H" if name in ("entry_size", "count") else "<Q", data, places[name], value)
    return bytes(data)


def test_a_good_header_is_accepted() -> None:
    assert parse_elf(segment_fields(), "vmlinuz") == (
        TEXT_PADDR,
        (Segment(0x1000, TEXT_VADDR, TEXT_PADDR, 400, 0x1000, 5),),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"table": 1 << 63},
        {"entry_size": 0},
        {"count": 0},
        {"count": 65535},
        {"offset": 0x1001},
        {"offset": (1 << 64) - 1},
        {"file_size": 1 << 63},
        {"mem_size": 399},
        {"mem_size": 1 << 40},
        {"paddr": 1 << 60},
        {"vaddr": 0},
        {"vaddr": TEXT_VADDR + 1, "paddr": TEXT_PADDR + 1},
    ],
)
def test_hostile_program_headers_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(KernelFileError, match="^vmlinuz: its ELF .*; (give|fetch)"):
        parse_elf(segment_fields(**changes), "vmlinuz")


@given(st.binary(max_size=300))
def test_random_elfs_raise_nothing_else(rest: bytes) -> None:
    with pytest.raises(KernelFileError):
        parse_elf(b"\x7fELF\x02\x01" + rest, "vmlinuz")


_VMLINUX = MiniKernel(functions=1024).vmlinux()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200) | st.integers(0, len(_VMLINUX)), st.binary(min_size=1, max_size=16))
def test_damage_to_the_kernel_inside_raises_nothing_else(tmp_path: Path, place: int, junk: bytes) -> None:
    vmlinux = bytearray(_VMLINUX)
    place %= len(vmlinux)
    vmlinux[place : place + len(junk)] = junk
    try:
        kernel = loaded(tmp_path, bzimage(COMPRESSORS["lz4"](bytes(vmlinux))))
    except KernelFileError as error:
        assert "\n" not in str(error)
    else:
        assert len(kernel.flat()) <= 1 << 30
        assert kernel.config is None or isinstance(kernel.config, str)
