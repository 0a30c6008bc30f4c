"""Booting an unmodified Linux kernel inside the emulator until it is about to `execve` its init.

The boot protocol is the 64-bit one (Documentation/arch/x86/boot.rst): long mode, identity-mapped, RSI =
boot_params. KASLR is ours: the relocations are applied before the kernel starts, the three region bases are
written once it has set them to its defaults (in its code, where they are constants), and KASLR_FLAG stays
clear so that it draws none of its own. The loader decides between 4 and 5 levels of page tables: the kernel
stays with what it finds (arch/x86/boot/compressed/pgtable_64.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unicorn import x86_const as x86

from hybridbridge_vol.errors import BootError
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.region_constants import Bases
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.cpu import EFER_MSR
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import ENTRIES, LARGE, PRESENT, WRITABLE
from hybridbridge_vol.trust.placement import RAM_SIZE, UNUSED_PADDR, Layout
from hybridbridge_vol.units import START_KERNEL_MAP, Progress

BOOT_SECONDS = 120.0
"""A boot takes 2 to 4 s of CPU; beyond this the kernel is waiting for something that never comes."""

COMMAND_LINE = (
    "earlyprintk=serial,ttyS0,115200,keep nolapic noapic acpi=off pci=off nokaslr lpj=4000000 "
    "tsc_early_khz=1000000 no_timer_check mitigations=off nopti 8250.nr_uarts=0 i8042.noprobe "
    "initcall_blacklist=jent_mod_init rdinit=/init root=none rootfstype=tmpfs "
    "clocksource=jiffies nosmp maxcpus=0 nohpet "
    "apparmor=0 selinux=0 lsm= audit=0 "
    "rcupdate.rcu_expedited=1 no_hash_pointers hardened_usercopy=off random.trust_cpu=on panic=-1"
)
"""Why each is there: no hardware but a console, no second CPU, no timer; jitterentropy never ends under a
regular TSC; without an initramfs (CONFIG_BLK_DEV_INITRD) a root is needed to start init; an investigator
wants addresses (`no_hash_pointers`); user copies meet snapshot addresses, which the hardened checks of the
trusted allocator cannot know (`hardened_usercopy`)."""

# Guest-physical addresses below 1 MiB that hold what a boot loader leaves behind.
_BOOT_PARAMS = 0x10000
_COMMAND_LINE_AT = 0x11000
_GDT = 0x18000
_TABLES = 0x20000
_TABLES_TOP = 0x28000
_STACK = 0x30000
_INITRD_SPACE = 1 << 20
_ISA_END = 0x100000
_RESERVED_AREA = UNUSED_PADDR + 0x100  # what lies before is the bridge's, see bridge/per_cpu.py

# Offsets in struct boot_params, arch/x86/include/uapi/asm/bootparam.h
_E820_COUNT, _SETUP_HEADER, _LOADER_TYPE, _RAMDISK, _COMMAND_LINE, _E820_TABLE = (
    0x1E8,
    0x1F1,
    0x210,
    0x218,
    0x228,
    0x2D0,
)
_LOADER_UNDEFINED = 0xFF

_STARTS_INIT = ("kernel_execve", "do_execve", "run_init_process")
"""What executes init (init/main.c): since 5.9, before, and what calls it."""
_CRASHES = ("Kernel panic - not syncing", "BUG: ", "Oops: ", "general protection fault", "PANIC: ")
"""How kernels begin to tell of their end (kernel/panic.c, arch/x86/kernel/dumpstack.c, mm/fault.c)."""

EXPECTED_CONSOLE_LINES = 180
"""For the progress bar only: about how many lines a kernel prints until its init."""


@dataclass
class BootedKernel:
    """A kernel that stands at the entry of the function that executes its init, in `machine`.

    `return_vaddr` is that entry: calls made from here return to it.
    """

    machine: Machine
    ram: HostMapping
    layout: Layout
    return_vaddr: int


def boot(kernel: KernelImage, layout: Layout, progress: Progress | None = None) -> BootedKernel:
    """Boot `kernel` at `layout`.

    Raises BootError, with the last console line, if the kernel does not reach its init.
    """
    lines = 0

    def on_line(_line: str) -> None:
        nonlocal lines
        lines += 1
        if progress:
            progress(min(lines / EXPECTED_CONSOLE_LINES, 0.99), "booting")

    machine = Machine(layout.levels, on_line=on_line)
    ram = HostMapping.anonymous(RAM_SIZE)
    machine.place(0, ram)
    _load_image(machine, kernel, layout)
    _write_boot_params(machine, kernel)
    _enter_long_mode(machine)
    started_vaddr = kernel.symbols.address("start_kernel") + layout.kernel_delta
    stop_vaddr = start_of_init(kernel.symbols) + layout.kernel_delta
    try:
        stop = machine.run(kernel.entry_paddr, started_vaddr, BOOT_SECONDS)
        if stop.kind == "returned":
            _write_bases(machine, kernel, layout)
            _reserve(machine, kernel, layout)
            stop = machine.run(started_vaddr, stop_vaddr, BOOT_SECONDS)
    finally:
        machine.rest()
    if stop.kind != "returned":
        raise BootError(
            f"{kernel.path}: the kernel did not reach its init ({stop.kind} at {stop.rip:#x}); "
            f"last line: {said_last(machine.devices.console)}"
        )
    return BootedKernel(machine, ram, layout, stop_vaddr)


def start_of_init(symbols: Symbols) -> int:
    """Link-time address of the function by which a kernel executes its first program. KeyError."""
    return symbols.address(next((name for name in _STARTS_INIT if name in symbols), _STARTS_INIT[0]))


def said_last(console: Sequence[str]) -> str:
    """Of what a kernel printed the line that says why it ended: of a crash the first, else the last."""
    lines = [line for line in console if line.strip()]
    crash = next((line for line in lines if any(word in line for word in _CRASHES)), None)
    return crash or (lines[-1] if lines else "nothing printed")


def _load_image(machine: Machine, kernel: KernelImage, layout: Layout) -> None:
    memory = machine.memory
    for segment in kernel.segments:
        start = segment.file_offset
        memory.write(segment.paddr, memoryview(kernel.vmlinux)[start : start + segment.file_size])
    relocate(machine, kernel, layout.kernel_delta)
    _move_regions(machine, kernel, layout)


def _write_bases(machine: Machine, kernel: KernelImage, layout: Layout) -> None:
    for name in ("page_offset_base", "vmalloc_base", "vmemmap_base"):
        vaddr = kernel.symbols.get(name)
        if vaddr is not None:  # else it is a constant, see `_move_regions`
            machine.memory.write_u64(vaddr - START_KERNEL_MAP, getattr(layout, name))


def _move_regions(machine: Machine, kernel: KernelImage, layout: Layout) -> None:
    constants = kernel.region_constants
    if constants is None:
        return
    start = kernel.symbols.address("_text") - START_KERNEL_MAP
    bases = Bases(layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base)
    for offset, code in constants.moved(bases):
        machine.memory.write(start + offset, code)


def _reserve(machine: Machine, kernel: KernelImage, layout: Layout) -> None:
    """Let the vmalloc area end where the memory map begins: what lies above belongs to the snapshot.

    It is 32 TiB long (12,800 with 5 levels; VMALLOC_SIZE_TB, arch/x86/include/asm/pgtable_64_types.h) and
    reaches out of the guard hole. `vmalloc` takes the lowest addresses that are free, but `pcpu_get_vm_areas`
    the highest: any chunk of per-CPU memory after the first. `vmalloc_init` takes over the areas on the list
    `vmlist` (mm/vmalloc.c; `next`, `addr` and `size` begin struct vm_struct).
    """
    start = layout.vmemmap_base
    area = struct.pack("<3Q", 0, start, START_KERNEL_MAP - start)
    machine.memory.write(_RESERVED_AREA, area)
    head_paddr = kernel.symbols.address("vmlist") - START_KERNEL_MAP
    machine.memory.write_u64(head_paddr, layout.page_offset_base + _RESERVED_AREA)


def relocate(machine: Machine, kernel: KernelImage, delta: int) -> None:
    """Apply the kernel's relocation lists (arch/x86/boot/compressed/misc.c, `handle_relocations`)."""
    if not delta:
        return
    (view,) = [mapping.view for paddr, mapping in machine.memory.regions() if paddr == 0]
    _add(view, kernel.relocations.abs32, delta, 4)
    _add(view, kernel.relocations.inverse32, -delta, 4)
    _add(view, kernel.relocations.abs64, delta, 8)


def _add(view: memoryview, sites_vaddr: Iterable[int], step: int, size: int) -> None:
    """Add `step` to each integer of `size` bytes; sites are link-time addresses, aligned or not."""
    mask = (1 << (8 * size)) - 1
    whole = len(view) // size * size - size
    # one view for each alignment: an element of a view is read and written many times faster than a slice is
    aligned = [view[shift : whole + shift].cast("I" if size == 4 else "Q") for shift in range(size)]
    for vaddr in sites_vaddr:
        index, shift = divmod(vaddr - START_KERNEL_MAP, size)
        words = aligned[shift]
        words[index] = (words[index] + step) & mask


def _write_boot_params(machine: Machine, kernel: KernelImage) -> None:
    memory = machine.memory
    initrd = initramfs()
    initrd_paddr = RAM_SIZE - _INITRD_SPACE
    memory.write(_BOOT_PARAMS + _SETUP_HEADER, kernel.setup_header)
    memory.write(_BOOT_PARAMS + _LOADER_TYPE, bytes([_LOADER_UNDEFINED]))
    memory.write(_BOOT_PARAMS + _COMMAND_LINE, struct.pack("<I", _COMMAND_LINE_AT))
    memory.write(_COMMAND_LINE_AT, COMMAND_LINE.encode() + b"\0")
    memory.write(_BOOT_PARAMS + _RAMDISK, struct.pack("<II", initrd_paddr, len(initrd)))
    memory.write(initrd_paddr, initrd)
    ranges = ((0, UNUSED_PADDR), (_ISA_END, RAM_SIZE - _ISA_END))
    memory.write(_BOOT_PARAMS + _E820_COUNT, bytes([len(ranges)]))
    table = b"".join(struct.pack("<QQI", start, size, 1) for start, size in ranges)  # type 1: usable RAM
    memory.write(_BOOT_PARAMS + _E820_TABLE, table)


def _enter_long_mode(machine: Machine) -> None:
    """What the 64-bit boot protocol asks of a loader: paging on, identity-mapped, flat segments."""
    memory = machine.memory
    table_flags = PRESENT | WRITABLE
    memory.write_u64(_TABLES, (_TABLES + 0x1000) | table_flags)
    memory.write_u64(_TABLES_TOP, _TABLES | table_flags)
    five = machine.levels == 5
    for gigabyte in range(4):
        directory = _TABLES + 0x2000 + 0x1000 * gigabyte
        memory.write_u64(_TABLES + 0x1000 + 8 * gigabyte, directory | table_flags)
        pages = (((gigabyte * ENTRIES + i) << 21) | table_flags | LARGE for i in range(ENTRIES))
        memory.write(directory, struct.pack("<512Q", *pages))
    memory.write(_GDT, struct.pack("<4Q", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF))
    machine.uc.reg_write(x86.UC_X86_REG_GDTR, (0, _GDT, 31, 0))
    machine.write_register("CR4", 1 << 5 | five << 12)  # PAE, LA57
    machine.write_register("CR3", _TABLES_TOP if five else _TABLES)
    machine.write_msr(EFER_MSR, 1 << 8)  # LME
    machine.write_register("CR0", 0x80000031)  # PG, NE, ET, PE
    machine.write_register("CS", 0x10)
    for name in ("DS", "ES", "SS"):
        machine.write_register(name, 0x18)
    machine.write_register("RSI", _BOOT_PARAMS)
    machine.write_register("RSP", _STACK)
    machine.write_register("EFLAGS", 2)


def initramfs() -> bytes:
    """The smallest initramfs that makes a kernel want to run `/init` (newc cpio, initramfs buffer format)."""
    directory, executable = 0o40755, 0o100755
    entries = [(name, directory, b"") for name in ("dev", "proc", "sys")]
    entries += [("init", executable, b"#!/\n"), ("TRAILER!!!", 0, b"")]
    return b"".join(_cpio_entry(*entry) for entry in entries)


def _cpio_entry(name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
