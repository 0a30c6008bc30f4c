"""A kernel of Debian's whose modules lie where those of a kernel without CONFIG_RANDOMIZE_BASE do.

What such a kernel does otherwise is changed in Debian's: where the loader allocates (`module_alloc`,
arch/x86/kernel/module.c), the range in which an address is a module's (`is_vmalloc_or_module_addr`,
mm/vmalloc.c), and how far the page table maps that the kernel starts with. KASLR must be off.
"""

from __future__ import annotations

import struct
from pathlib import Path

import lz4.block
from package_makers import deb

from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.packages import members
from samples.kernels import fetch
from samples.unpacked import unpacked

KERNEL = "6.1-cloud"
START = 0xFFFF_FFFF_A000_0000
_USUAL = 0xFFFF_FFFF_C000_0000
_END = 0xFFFF_FFFF_FF00_0000
_LZ4_MAGIC, _LZ4_BLOCK = b"\x02\x21\x4c\x18", 8 << 20
_REGULAR = 0o100000


def package() -> Path:
    """The package with this kernel and Debian's modules, made once."""
    original = fetch(KERNEL)
    return unpacked("moved-area", [original], _write) / original.name


def _write(original: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    files = []
    for member in members(original, "./boot/vmlinuz-*", "boot/vmlinuz-*", "*lib/modules/*"):
        is_kernel = "boot/" in member.name
        data = _moved(KernelImage.from_file(original)) if is_kernel else member.data
        if data:
            files.append((member.name.removeprefix("./"), _REGULAR | 0o644, data))
    (folder / original.name).write_bytes(deb(files, "none"))


def _moved(kernel: KernelImage) -> bytes:
    vmlinux, moved = bytearray(kernel.vmlinux), _USUAL - START
    before = struct.pack("<i", _USUAL - (1 << 64))
    _replace(kernel, vmlinux, "module_alloc", before, struct.pack("<i", START - (1 << 64)))
    for number in ((1 << 64) - _USUAL, _END - _USUAL - 1):
        old, new = struct.pack("<I", number), struct.pack("<I", number + moved)
        _replace(kernel, vmlinux, "is_vmalloc_or_module_addr", old, new)
    table = _place(kernel, kernel.symbols.address("level2_kernel_pgt"))
    vmlinux[table + 2048 : table + 4096] = bytes(2048)
    return _packed(bytearray(kernel.vmlinuz), bytes(vmlinux))


def _place(kernel: KernelImage, vaddr: int) -> int:
    """Where the kernel's file has an address."""
    segment = next(one for one in kernel.segments if 0 <= vaddr - one.vaddr < one.file_size)
    return segment.file_offset + vaddr - segment.vaddr


def _replace(kernel: KernelImage, vmlinux: bytearray, function: str, old: bytes, new: bytes) -> None:
    """Change the one operand of that value in a function."""
    vaddr = kernel.symbols.address(function)
    start, size = _place(kernel, vaddr), (kernel.symbols.next_address(vaddr) or vaddr) - vaddr
    assert vmlinux.count(old, start, start + size) == 1, function
    at = vmlinux.index(old, start)
    vmlinux[at : at + len(new)] = new


def _packed(vmlinuz: bytearray, vmlinux: bytes) -> bytes:
    """The boot file with another kernel, which must not be larger when it is compressed (boot.rst)."""
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = (vmlinuz[0x1F1] + 1) * 512 + offset
    payload = vmlinuz[start : start + length]
    assert payload.startswith(_LZ4_MAGIC)
    blocks = [
        lz4.block.compress(
            vmlinux[at : at + _LZ4_BLOCK], mode="high_compression", compression=12, store_size=False
        )
        for at in range(0, len(vmlinux), _LZ4_BLOCK)
    ]
    new = _LZ4_MAGIC + b"".join(struct.pack("<I", len(block)) + block for block in blocks)
    size = payload[-4:]
    assert len(new) + len(size) <= length
    vmlinuz[start : start + length] = new.ljust(length - len(size), b"\0") + size
    return bytes(vmlinuz)
