"""Where superblocks, mounts and paths have their fields, in a kernel that draws their order too."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from small_snapshot import HOME_LAYOUT, HOME_VADDR, LINK

from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm, read_form
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import WRITABLE, TableBuilder

DIRECT = HOME_LAYOUT.page_offset_base
FS, HEAD = 0x4100, 0x4200
SUPERS = [DIRECT + 0x2_0000 + 0x800 * number for number in range(6)]
MOUNT, DENTRY = DIRECT + 0x3_0040, DIRECT + 0x3_1000
KERNEL: Any = SimpleNamespace(
    symbols=Symbols.build([(LINK + FS, "d", "init_fs"), (LINK + HEAD, "d", "super_blocks")])
)
DRAWN = FileSystemForm(0x218, 0x64, 16, 0, 8, 0)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A trusted kernel's direct map of 2 MiB, and its image."""
    machine = Machine()
    machine.place(0, HostMapping.anonymous(4 << 20))
    memory, free = machine.memory, iter(range(0x2000, 0xC000, 0x1000))
    tables = TableBuilder(0x1000, 4, memory.read_u64, memory.write_u64, lambda: next(free))
    tables.map_page(DIRECT, 0, WRITABLE, 21)
    tables.map_page(HOME_VADDR & -(2 << 20), 2 << 20, WRITABLE, 21)
    machine.write_register("CR3", 0x1000)
    yield machine
    machine.release()


def lay_out(machine: Machine, form: FileSystemForm, owner_at: int = 0x68) -> None:
    """Six superblocks on the list, and the root of the second, in which the kernel's threads are; that dentry
    has its superblock at an offset."""
    write = machine.write_u64
    nodes = [owner + form.super_list for owner in SUPERS]
    for before, node in zip([HOME_VADDR + HEAD, *nodes], [*nodes, HOME_VADDR + HEAD], strict=True):
        write(before, node)
    for number, owner in enumerate(SUPERS):
        machine.write(owner + form.super_device, (number + 2).to_bytes(4, "little"))
        machine.write(owner + 0x300, (1).to_bytes(4, "little"))
    write(MOUNT + form.mount_root, DENTRY)
    write(MOUNT + form.mount_super, SUPERS[1])
    write(DENTRY + 0x18, DENTRY)
    write(DENTRY + owner_at, SUPERS[1])
    for path in (0x20, 0x38):
        write(HOME_VADDR + FS + path + form.path_mount, MOUNT)
        write(HOME_VADDR + FS + path + form.path_dentry, DENTRY)


@pytest.mark.parametrize("form", [FileSystemForm(), DRAWN], ids=["as in the source", "drawn"])
def test_the_fields_are_found_by_what_they_hold(machine: Machine, form: FileSystemForm) -> None:
    lay_out(machine, form)
    assert read_form(machine, KERNEL, HOME_LAYOUT) == form


def test_a_dentry_of_a_kernel_that_checks_its_locks_is_larger(machine: Machine) -> None:
    lay_out(machine, DRAWN, owner_at=0x110)
    assert read_form(machine, KERNEL, HOME_LAYOUT) == DRAWN


def test_a_kernel_that_shows_nothing_is_taken_to_be_as_its_source(machine: Machine) -> None:
    machine.write_u64(HOME_VADDR + HEAD, HOME_VADDR + HEAD)
    assert read_form(machine, KERNEL, HOME_LAYOUT) == FileSystemForm()
    without: Any = SimpleNamespace(symbols=Symbols.build([]))
    lay_out(machine, DRAWN)
    assert read_form(machine, without, HOME_LAYOUT) == FileSystemForm()


def test_a_path_has_its_words_in_the_kernel_s_order() -> None:
    assert FileSystemForm().path(1, 2) == (1, 2)
    assert DRAWN.path(1, 2) == (2, 1)


def test_a_mount_is_found_by_its_root_and_its_superblock() -> None:
    words = [5, 0, 7, 0, 5, 7]
    data = b"".join(word.to_bytes(8, "little") for word in words)
    assert list(FileSystemForm().mounts_in(data, 5, 7)) == [32]
    assert list(DRAWN.mounts_in(data, 7, 5)) == [0]
    assert list(DRAWN.mounts_in(data, 9, 5)) == []
