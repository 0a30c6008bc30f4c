"""Distributions' kernels, checked against what their own images say.

From the fixture `kernel_packages`; without it from the `.deb` and `.rpm` files of the directory
HB_TEST_KERNELS.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.symbols import Symbols

PAGE_SIZE = 4096
KSYMTAB_ENTRY = struct.Struct("<3i")
"""struct kernel_symbol (include/linux/export-internal.h): where value, name and namespace are, each from its
place.
"""


@pytest.fixture
def packages(request: pytest.FixtureRequest) -> list[Path]:
    try:
        found = request.getfixturevalue("kernel_packages")
    except pytest.FixtureLookupError:
        folder = os.environ.get("HB_TEST_KERNELS")
        if not folder:
            pytest.skip("no kernels: HB_TEST_KERNELS names no directory of .deb files")
        found = sorted(path for path in Path(folder).iterdir() if path.suffix in (".deb", ".rpm"))
    paths = [Path(path) for path in (found.values() if isinstance(found, Mapping) else found)]
    assert paths, "a place for kernels without any"
    return paths


def word(kernel: KernelImage, vaddr: int, size: int) -> int:
    start = vaddr - kernel.symbols.address("_text")
    return int.from_bytes(kernel.flat()[start : start + size], "little")


def the_banner_stands_at_its_symbol(kernel: KernelImage) -> None:
    start = kernel.symbols.address("linux_banner") - kernel.symbols.address("_text")
    assert kernel.flat()[start:].startswith(kernel.banner.encode() + b"\0")
    assert kernel.banner.startswith(f"Linux version {kernel.release} ")
    assert kernel.banner.endswith("\n")


def the_landmarks_are_where_a_linker_puts_them(kernel: KernelImage) -> None:
    symbols = kernel.symbols
    assert len(symbols) > 50_000
    assert symbols.address("_text") == kernel.segments[0].vaddr
    order = ["_text", "_etext", "__start_rodata", "linux_banner", "__end_rodata", "init_task", "_end"]
    assert [symbols.address(name) for name in order] == sorted(symbols.address(name) for name in order)
    assert symbols.address("init_top_pgt") % PAGE_SIZE == 0
    assert symbols.size("init_top_pgt") % PAGE_SIZE == 0
    assert symbols.lookup(0xFFFFFFFF80000000 + kernel.entry_paddr) == ("startup_64", 0)


def exported_symbols_are_where_the_export_table_says(kernel: KernelImage) -> None:
    """The kernel's table for its modules is written by the compiler and knows nothing of kallsyms."""
    symbols, flat = kernel.symbols, kernel.flat()
    text = symbols.address("_text")
    names = set()
    for table in ("___ksymtab", "___ksymtab_gpl"):
        if f"__start{table}" not in symbols:
            continue
        start, stop = symbols.address(f"__start{table}"), symbols.address(f"__stop{table}")
        for at in range(start, stop, KSYMTAB_ENTRY.size):
            value, name, _ = KSYMTAB_ENTRY.unpack_from(flat, at - text)
            name_at = at + 4 + name - text
            exported = flat[name_at : flat.index(0, name_at)].decode()
            assert (at + value) & (1 << 64) - 1 in symbols.addresses(exported), exported
            names.add(exported)
    assert len(names) > 5000


def system_calls_are_relocated_pointers_to_their_functions(kernel: KernelImage) -> None:
    symbols = kernel.symbols
    sites = set(kernel.relocations.abs64)
    table = symbols.address("sys_call_table")
    names = []
    for at in range(table, table + symbols.size("sys_call_table"), 8):
        if at not in sites:
            break
        found = symbols.lookup(word(kernel, at, 8))
        assert found is not None
        assert found[1] == 0
        names.append(found[0])
    assert len(names) > 400
    assert names[:3] == ["__x64_sys_read", "__x64_sys_write", "__x64_sys_open"]
    assert all(name.startswith(("__x64_sys_", "__do_sys_", "__ia32_sys_", "sys_ni")) for name in names)


def relocated_places_hold_addresses_of_the_kernel(kernel: KernelImage) -> None:
    """Nearly all: the rest are physical addresses (page tables, `phys_base` arithmetic) and distances."""
    text, end = kernel.symbols.address("_text"), kernel.symbols.address("_end")
    lists = kernel.relocations
    for sites, size, bias in ((lists.abs64, 8, 0), (lists.abs32, 4, 0xFFFFFFFF00000000)):
        assert len(sites) > 10_000
        inside = sum(text <= word(kernel, site, size) + bias <= end for site in sites)
        assert inside > 0.99 * len(sites)
    everything = [*lists.abs32, *lists.inverse32, *lists.abs64]
    assert len(set(everything)) == len(everything)


def inverse_relocations_come_with_a_per_cpu_area_at_zero(kernel: KernelImage) -> None:
    assert bool(kernel.relocations.inverse32) == (kernel.symbols.address("__per_cpu_start") == 0)
    for site in kernel.relocations.inverse32:
        found = kernel.symbols.lookup(site)
        assert found is not None
        assert found[1] < 1 << 20


def packing_keeps_every_symbol(kernel: KernelImage) -> None:
    unpacked = Symbols.unpack(kernel.symbols.pack())
    assert list(unpacked) == list(kernel.symbols)
    for address, _, name in list(unpacked)[::997]:
        assert address in unpacked.addresses(name)


def the_build_id_is_a_sha1(kernel: KernelImage) -> None:
    assert len(bytes.fromhex(kernel.build_id)) == 20


CHECKS: list[Callable[[KernelImage], None]] = [
    the_banner_stands_at_its_symbol,
    the_landmarks_are_where_a_linker_puts_them,
    exported_symbols_are_where_the_export_table_says,
    system_calls_are_relocated_pointers_to_their_functions,
    relocated_places_hold_addresses_of_the_kernel,
    inverse_relocations_come_with_a_per_cpu_area_at_zero,
    packing_keeps_every_symbol,
    the_build_id_is_a_sha1,
]


@pytest.mark.slow
def test_distributions_kernels_agree_with_themselves(packages: list[Path], subtests: pytest.Subtests) -> None:
    for path in packages:
        kernel = KernelImage.from_file(path)
        for check in CHECKS:
            with subtests.test(kernel.release, check=check.__name__):
                check(kernel)
