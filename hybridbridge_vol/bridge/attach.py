"""Bringing a snapshot and a trusted kernel together in one machine.

The steps, in this order: the snapshot's layout is read; a boot of the trusted kernel is chosen that lies
clear of it; the twin and the snapshot's address space are set up, to be filled on demand; the machine is put
over that memory and takes the CPU state of the boot; the proxy task, the task whose system calls we make, is
pointed to the snapshot's namespaces. Every write goes to copy-on-write pages.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.allowance import Allowance
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.clock import StoppedClock, find_clock
from hybridbridge_vol.bridge.cpu_entry_area import hide
from hybridbridge_vol.bridge.device_memory import DeviceMemory
from hybridbridge_vol.bridge.faults import FaultHandler
from hybridbridge_vol.bridge.identity_maps import restore_identity_maps
from hybridbridge_vol.bridge.image_pages import ImagePages
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_for_kernel import load_memo
from hybridbridge_vol.bridge.modules.added_room import AddedRoom
from hybridbridge_vol.bridge.modules.names import ModuleNames
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.per_cpu import boot_margin, home_per_cpu_fields
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.physical_map import MAX_SNAPSHOT
from hybridbridge_vol.bridge.proxy_namespaces import enter_snapshot
from hybridbridge_vol.bridge.sequence_counters import end_writers
from hybridbridge_vol.bridge.sides import Sides, moved
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace, TrustedTables
from hybridbridge_vol.bridge.text.prepare import load_or_error
from hybridbridge_vol.bridge.text.prepared import Prepared
from hybridbridge_vol.bridge.text.snapshot_branches import SnapshotBranches
from hybridbridge_vol.bridge.text.trampolines import TwinTrampolines, home_trampolines
from hybridbridge_vol.bridge.text.twin_text import TwinText
from hybridbridge_vol.bridge.trusted_addresses import trusted_addresses
from hybridbridge_vol.bridge.twin_pages import TwinExtent, TwinPages
from hybridbridge_vol.errors import AttachError, ImageError
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, page_up
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.blank_pages import (
    CACHES,
    GENERIC,
    PID_NAMESPACE,
    TASK_SIZE,
    TASKS,
    BlankPages,
    KernelData,
    Variables,
)
from hybridbridge_vol.snapshot.find_kernel import Found
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout, read_layout
from hybridbridge_vol.snapshot.machine_state import Numbers, read_state
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual, VirtualMemory
from hybridbridge_vol.trust.stored_kernel import Boot, MemoryCheck, StoredKernel
from hybridbridge_vol.units import PAGE_SIZE, Progress


class _TrustedSide(NamedTuple):
    """A booted state of a stored kernel, chosen for a snapshot; `check` runs beside the work."""

    kernel: StoredKernel
    boot: Boot
    check: MemoryCheck
    prepared: Prepared
    ram: HostMapping


def attach(
    image: PhysicalImage,
    kernel: StoredKernel,
    found: Found,
    progress: Progress | None = None,
    memo: Memo | None = None,
) -> Bridge:
    """Attach `kernel` to the snapshot in `image`, where it was `found`; `memo` is by default the stored one.

    Raises AttachError or ImageError, which name the image, when the snapshot cannot be used, StoreError or
    BootError when the stored kernel cannot.
    """
    if image.end_paddr > MAX_SNAPSHOT:
        raise ImageError(
            f"{image.path}: more than {MAX_SNAPSHOT >> 30} GiB of physical addresses are not supported"
        )
    layout = _read_layout(image, kernel, found)
    trusted = _choose_boot(kernel, layout, progress)
    snapshot = VirtualMemory(image, layout, _blank_pages(trusted, image, layout))
    if memo is None:
        memo = load_memo(kernel, snapshot.layout.levels)
    try:
        return _assemble(trusted, snapshot, memo)
    except (UnreadableVirtual, UnmappedVirtual) as error:
        trusted.check.finish()  # a damaged stored kernel is the likelier cause, and the better message
        why = snapshot.why_unreadable(error.vaddr) or "not where the kernel has it: the image is smeared"
        raise AttachError(f"{image.path}: the kernel's own data at {error.vaddr:#x}: {why}") from None


def _read_layout(image: PhysicalImage, kernel: StoredKernel, found: Found) -> SnapshotLayout:
    try:
        return read_layout(image, kernel, found)
    except AttachError as error:
        raise AttachError(f"{image.path}: {error}") from None


def _choose_boot(kernel: StoredKernel, snapshot: SnapshotLayout, progress: Progress | None) -> _TrustedSide:
    """A booted state that lies clear of the snapshot's kernel, with the policy's patches in its own text."""
    margin = boot_margin(kernel)
    start, end = snapshot.text_vaddr - margin, snapshot.text_vaddr + page_up(snapshot.size) + margin
    boot = kernel.boot_clear_of(start, end, progress, snapshot.levels)
    check = boot.verify()
    prepared = load_or_error(kernel, boot)
    ram = boot.map_memory()
    for offset, code in home_trampolines(prepared.trampolines):
        place = kernel.text_paddr + offset
        ram.view[place : place + len(code)] = code
    return _TrustedSide(kernel, boot, check, prepared, ram)


def _assemble(trusted: _TrustedSide, snapshot: VirtualMemory, memo: Memo) -> Bridge:
    """The bridge, from the memory up: what comes later refers to what comes earlier, never the reverse."""
    memory = PhysicalMemory()
    memory.place(0, trusted.ram)
    boot = trusted.boot._replace(state=hide(memory, trusted.boot.layout, trusted.boot.state))
    kernel, prepared = trusted.kernel, trusted.prepared
    sides = Sides.of(kernel, boot.layout, snapshot.layout)
    clock = find_clock(snapshot, sides)
    per_cpu = _per_cpu_window(boot, snapshot, sides)
    names = ModuleNames.of(kernel, sides, prepared.per_cpu)
    modules = SnapshotModules(snapshot, memo, names, per_cpu, AddedRoom(snapshot, memory), prepared.hashes)
    twin = TwinPages(
        memory,
        _twin_text(trusted, snapshot, sides, clock, memo),
        TwinExtent.of(kernel.symbols, kernel.text_link_vaddr, prepared.rodata_end),
        memo.text,
        modules,
        snapshot.layout,
    )
    image_pages = ImagePages(
        snapshot.image,
        memory,
        trusted_addresses(sides, boot.layout, boot.state.root_paddr, memory),
        snapshot.blank,
    )
    tables = TrustedTables(memory, boot.state.root_paddr, boot.layout)
    devices = DeviceMemory(snapshot.image)
    space = SnapshotSpace(tables, snapshot, image_pages, twin, modules, per_cpu, devices)
    faults = FaultHandler(space, twin, sides, prepared.warnings, prepared.fixups)
    machine = Machine(snapshot.layout.levels, memory, faults, clock.tsc() if clock else None)
    devices.show(machine.uc)
    try:
        machine.load_state(boot.state)
        namespaces = enter_snapshot(machine, prepared.proxy_task, sides, snapshot)
        notes = restore_identity_maps(machine, sides, space), end_writers(machine, sides, space)
    except BaseException:
        machine.release()
        raise
    return Bridge(
        kernel=kernel,
        boot=boot,
        check=trusted.check,
        prepared=prepared,
        ram=trusted.ram,
        virtual_memory=snapshot,
        sides=sides,
        memo=memo,
        space=space,
        image_pages=image_pages,
        twin=twin,
        faults=faults,
        machine=machine,
        namespaces=namespaces,
        allowance=Allowance(),
        notes=tuple(filter(None, notes)),
        state=read_state(_numbers(kernel, snapshot), kernel.running_constant),
    )


def _blank_pages(trusted: _TrustedSide, image: PhysicalImage, layout: SnapshotLayout) -> BlankPages:
    kernel = trusted.kernel
    symbols, text = kernel.symbols, kernel.text_link_vaddr

    def offset(name: str) -> int | None:
        found = symbols.get(name)
        return None if found is None else found - text

    def words(name: str) -> tuple[int, int]:
        start = offset(name)
        return (0, 0) if start is None else (start, symbols.size(name) & -8)

    variables = Variables(
        [found for name in CACHES if (found := offset(name)) is not None],
        offset(TASKS),
        words(GENERIC),
        words(PID_NAMESPACE),
        offset(TASK_SIZE),
    )

    def part(first: str, last: str) -> KernelData:
        start, end = page_up(offset(first) or 0), (offset(last) or 0) & -PAGE_SIZE
        ram = trusted.ram.view[kernel.text_paddr + start : kernel.text_paddr + max(start, end)]
        return KernelData(start, ram)

    read_only_later = part("__start_ro_after_init", "__end_ro_after_init")
    return BlankPages(image, layout, variables, part("_sdata", "_edata"), read_only_later)


def _numbers(kernel: StoredKernel, snapshot: VirtualMemory) -> Numbers:
    def number(symbol: str, size: int) -> int | None:
        vaddr = kernel.symbols.get(symbol)
        return None if vaddr is None else snapshot.static_number(vaddr - kernel.text_link_vaddr, size)

    return number


def _twin_text(
    trusted: _TrustedSide, snapshot: VirtualMemory, sides: Sides, clock: StoppedClock | None, memo: Memo
) -> TwinText:
    kernel, boot, prepared = trusted.kernel, trusted.boot, trusted.prepared
    trampolines = TwinTrampolines(
        prepared.trampolines,
        sides.twin_text_vaddr,
        sides.home_text_vaddr,
        boot.layout.guard_hole.start,
        prepared.slab_fields,
        prepared.file_systems,
    )
    patches = list(prepared.constants.patches(snapshot))
    if clock is not None:
        patches.append(clock.patch())
    return TwinText(
        booted=trusted.ram.view[kernel.text_paddr : kernel.text_paddr + kernel.size],
        sites=prepared.sites,
        shift=sides.snapshot_delta - sides.home_delta,
        patches=patches,
        trusted=memo.text,
        branches=SnapshotBranches(prepared.labels, prepared.features, snapshot),
        at_home=home_per_cpu_fields(boot, prepared.per_cpu, sides, trusted.ram),
        hashes=prepared.hashes.places,
        restored=prepared.restored,
        trampolines=trampolines,
    )


def _per_cpu_window(boot: Boot, snapshot: VirtualMemory, sides: Sides) -> PerCpuWindow:
    offsets = sides.per_cpu_offsets
    return PerCpuWindow(
        gs=boot.state.gs_base,
        start=moved(sides.symbols.get("__per_cpu_start") or 0, sides.snapshot_delta),
        offset=0 if offsets is None else snapshot.static_number(offsets - sides.twin_text_vaddr, 8) or 0,
    )
