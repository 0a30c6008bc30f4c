"""Attaching: what makes it fail is named, and the proxy task sees what the snapshot's init sees."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_snapshot import (
    HOME_LAYOUT,
    HOME_VADDR,
    IMAGE_SIZE,
    KERNEL_SIZE,
    LINK,
    SHIFT,
    STATICS,
    TEXT_PADDR,
    TEXT_VADDR,
    SmallSnapshot,
    word,
)

from hybridbridge_vol.bridge.attach import attach
from hybridbridge_vol.bridge.physical_map import MAX_SNAPSHOT
from hybridbridge_vol.bridge.proxy_namespaces import enter_snapshot
from hybridbridge_vol.bridge.sides import Sides, moved
from hybridbridge_vol.bridge.text.proxy_task import NO_FIELD, ProxyTask
from hybridbridge_vol.errors import AttachError, ImageError
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import WRITABLE, TableBuilder
from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import MIN_IMAGE_SIZE, Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.snapshot.find_kernel import Found
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual, VirtualMemory
from hybridbridge_vol.trust.stored_kernel import StoredKernel

FOUND = Found(TEXT_PADDR, SHIFT, 1.0)
BASES = ("page_offset_base", "vmalloc_base", "vmemmap_base")


def stored_kernel(folder: Path, offsets: dict[str, int]) -> StoredKernel:
    """A stored kernel that has symbols at offsets from `_text`, and no boot."""
    packed = Symbols.build([(LINK + offset, "D", name) for name, offset in offsets.items()]).pack()
    folder.mkdir()
    (folder / "symbols").write_bytes(packed)
    record = {
        "release": "6.6.6-test",
        "banner": "",
        "build_id": "ab",
        "created": 0.0,
        "text": LINK,
        "end": LINK + KERNEL_SIZE,
        "banner_vaddr": LINK,
        "probes": [],
        "symbols_checksum": zlib.crc32(packed),
    }
    return StoredKernel(folder, record)


@pytest.fixture
def snapshot(tmp_path: Path) -> Iterator[SmallSnapshot]:
    small = SmallSnapshot(tmp_path / "dump.raw", {STATICS["init_cred"] + 0x80: word(0x5EC)})
    yield small
    small.close()


@pytest.mark.parametrize(("name", "offset"), [(name, IMAGE_SIZE) for name in BASES])
def test_an_image_that_lacks_what_the_layout_is_read_from_is_named(
    snapshot: SmallSnapshot, tmp_path: Path, name: str, offset: int
) -> None:
    kernel = stored_kernel(tmp_path / "kernel", {**dict.fromkeys(("init_top_pgt", *BASES), 0), name: offset})
    with pytest.raises(AttachError) as caught:
        attach(snapshot.image, kernel, FOUND)
    assert str(caught.value) == (
        f"{tmp_path / 'dump.raw'}: the image does not hold the kernel's {name}; "
        "it was truncated while it was taken"
    )


def test_a_kernel_older_than_the_bridge_supports_is_reported_with_the_image(
    snapshot: SmallSnapshot, tmp_path: Path
) -> None:
    with pytest.raises(AttachError, match=rf"^{tmp_path / 'dump.raw'}: the kernel has no init_top_pgt"):
        attach(snapshot.image, stored_kernel(tmp_path / "kernel", {"_text": 0}), FOUND)


def test_more_physical_memory_than_the_machine_has_room_for_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "dump.raw"
    os.close(os.open(path, os.O_CREAT))
    os.truncate(path, MIN_IMAGE_SIZE)
    kernel = stored_kernel(tmp_path / "kernel", {"_text": 0})
    image = PhysicalImage(ImageFile(path), Contents("raw", [Run(MAX_SNAPSHOT, MIN_IMAGE_SIZE, 0)]))
    with image, pytest.raises(ImageError, match=r"dump\.raw: more than 768 GiB"):
        attach(image, kernel, FOUND)


# --- the two sides ----------------------------------------------------------------------------------------


def test_a_symbol_has_an_address_on_each_side(snapshot: SmallSnapshot) -> None:
    sides = snapshot.sides
    assert sides.home("second_function") == HOME_VADDR + 0x800
    assert sides.snapshot("second_function") == TEXT_VADDR + 0x800
    assert (sides.home_text_vaddr, sides.twin_text_vaddr) == (HOME_VADDR, TEXT_VADDR)
    assert sides.home_or_none("no such symbol") is None
    assert sides.snapshot_all("no such symbol") == []
    with pytest.raises(KeyError):
        sides.home("no such symbol")


def test_per_cpu_offsets_do_not_move_and_addresses_wrap() -> None:
    assert moved(0x1F000, SHIFT) == 0x1F000
    assert moved(LINK, SHIFT) == LINK + SHIFT
    assert moved(LINK, -(LINK + 8)) == (1 << 64) - 8


def test_addresses_are_described_by_side_and_function(snapshot: SmallSnapshot) -> None:
    describe = snapshot.sides.describe
    assert describe(HOME_VADDR + 0x810) == "home second_function+0x10"
    assert describe(TEXT_VADDR + 0x800) == "twin second_function+0x0"
    assert describe(TEXT_VADDR + KERNEL_SIZE) is None
    assert describe(0) is None


# --- the proxy task ---------------------------------------------------------------------------------------

TASK, NSPROXY, PID, CRED = (
    HOME_LAYOUT.page_offset_base + offset for offset in (0x10000, 0x11000, 0x12000, 0x13000)
)
PROXY_TASK = ProxyTask(TASK, 0x100, PID, 0x60, CRED, 0x90, 0x80)
NAMESPACES = {"init_uts_ns": 0x4100, "init_pid_ns": 0x4200, "init_net": 0x4300, "init_user_ns": 0x4400}
INIT_CRED = STATICS["init_cred"]


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A trusted kernel's machine as far as the proxy task's structures go: two namespaces in its nsproxy, and
    a mount namespace of its own."""
    machine = Machine()
    machine.place(0, HostMapping.anonymous(2 << 20))
    memory, free = machine.memory, iter(range(0x2000, 0x8000, 0x1000))
    tables = TableBuilder(0x1000, 4, memory.read_u64, memory.write_u64, lambda: next(free))
    tables.map_page(HOME_LAYOUT.page_offset_base, 0, WRITABLE, 21)
    machine.write_register("CR3", 0x1000)
    machine.write_u64(TASK + 0x100, NSPROXY)
    for slot, value in enumerate(
        (1, HOME_VADDR + 0x4100, 0, MOUNTS, HOME_VADDR + 0x4200, HOME_VADDR + 0x4300)
    ):
        machine.write_u64(NSPROXY + 8 * slot, value)
    yield machine
    machine.release()


MOUNTS = HOME_LAYOUT.page_offset_base + 0x14000


def sides_with(*names: str) -> Sides:
    """Both sides of a kernel that has these symbols."""
    offsets = NAMESPACES | {"init_cred": INIT_CRED}
    symbols = Symbols.build([(LINK + offsets[name], "D", name) for name in names])
    return Sides(symbols, LINK, KERNEL_SIZE, HOME_LAYOUT.kernel_delta, SHIFT)


def test_the_proxy_task_enters_the_snapshots_namespaces_and_keeps_its_mounts(
    machine: Machine, snapshot: SmallSnapshot
) -> None:
    sides = sides_with(*NAMESPACES, "init_cred")
    places = enter_snapshot(machine, PROXY_TASK, sides, snapshot.memory)
    assert places == {
        NSPROXY + 8: "init_uts_ns",
        NSPROXY + 8 * 4: "init_pid_ns",
        NSPROXY + 8 * 5: "init_net",
    }
    assert all(machine.read_u64(place) == sides.snapshot(name) for place, name in places.items())
    assert machine.read_u64(NSPROXY + 8 * 3) == MOUNTS


def test_the_proxy_task_is_the_snapshots_init_to_the_snapshot(
    machine: Machine, snapshot: SmallSnapshot
) -> None:
    sides = sides_with(*NAMESPACES, "init_cred")
    enter_snapshot(machine, PROXY_TASK, sides, snapshot.memory)
    assert machine.read_u64(PID + 0x60) == sides.snapshot("init_pid_ns")
    assert int.from_bytes(machine.read(PID + 0x58, 4), "little") == 1
    assert machine.read_u64(CRED + 0x90) == sides.snapshot("init_user_ns")
    assert machine.read_u64(CRED + 0x80) == 0x5EC  # what the snapshot's init_cred has there


def test_without_init_cred_the_credentials_keep_their_security(
    machine: Machine, snapshot: SmallSnapshot
) -> None:
    machine.write_u64(CRED + 0x80, 0x11)
    enter_snapshot(machine, PROXY_TASK, sides_with(*NAMESPACES), snapshot.memory)
    assert machine.read_u64(CRED + 0x80) == 0x11


def test_a_kernel_without_security_modules_has_no_such_field(
    machine: Machine, snapshot: SmallSnapshot
) -> None:
    before = machine.read(CRED, 0x90)
    without = PROXY_TASK._replace(cred_security=NO_FIELD)
    enter_snapshot(machine, without, sides_with(*NAMESPACES, "init_cred"), snapshot.memory)
    assert machine.read(CRED, 0x90) == before


def test_credentials_that_are_not_in_the_image_are_reported(
    machine: Machine, snapshot: SmallSnapshot
) -> None:
    cut = VirtualMemory(snapshot.image, snapshot.memory.layout._replace(text_paddr=IMAGE_SIZE))
    with pytest.raises(UnreadableVirtual):
        enter_snapshot(machine, PROXY_TASK, sides_with(*NAMESPACES, "init_cred"), cut)
