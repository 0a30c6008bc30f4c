"""Kernels that can never be used here, each named for what it is: other processors, user-mode Linux.

Headers: Documentation/arch/arm64/booting.rst, Documentation/arch/riscv/boot-image-header.rst,
drivers/firmware/efi/libstub/zboot-header.S, arch/arm/boot/compressed/head.S, the ELF specification.
"""

from __future__ import annotations

import struct
import zlib

from hybridbridge_vol.units import ELF_MACHINES, START_KERNEL_MAP

KINDS = ".deb, .rpm, .apk or .pkg.tar.zst"
"""Packages that are read."""
_ONLY = "only kernels of 64-bit x86 (amd64) can be run"
_IMAGE_MAGIC_OFFSET, _IMAGE_MAGICS = 0x38, {b"ARM\x64": "arm64", b"RSC\x05": "RISC-V"}
_ZIMAGE_MAGIC_OFFSET, _ZIMAGE_MAGIC = 0x24, b"\x18\x28\x6f\x01"
_ZBOOT_MAGIC_OFFSET, _ZBOOT_MAGIC = 4, b"zimg"
_HEAD = 64
_ELF_MAGIC, _ELF64, _EM_X86_64, _EM_386, _PT_LOAD = b"\x7fELF", 2, 62, 3, 1
_GZIP = b"\x1f\x8b"
_MOST_HEADERS = 64
"""Program headers that are looked at; user-mode Linux has a dozen."""


def what_foreign(data: bytes) -> str | None:
    """What the kernel `data` is, and the way out, if it cannot be one of 64-bit x86; None if it may be."""
    if data.startswith(_ELF_MAGIC):
        return _foreign_elf(data)
    if data[_ZBOOT_MAGIC_OFFSET:][:4] == _ZBOOT_MAGIC:
        return f"an EFI zboot image, which no x86 kernel is; {_ONLY}"
    if data.startswith(_GZIP):
        return _foreign_image(_first_bytes(data))
    return _foreign_image(data)


def _foreign_image(data: bytes) -> str | None:
    machine = _IMAGE_MAGICS.get(bytes(data[_IMAGE_MAGIC_OFFSET:][:4]))
    if data[_ZIMAGE_MAGIC_OFFSET:][:4] == _ZIMAGE_MAGIC:
        machine = "32-bit ARM"
    return f"a kernel for {machine}; {_ONLY}" if machine else None


def _foreign_elf(data: bytes) -> str | None:
    if len(data) < _HEAD:
        return None
    (machine,) = struct.unpack_from("<H" if data[5] == 1 else ">H", data, 18)
    if machine not in ELF_MACHINES:
        return None  # damaged
    if machine == _EM_386 or (machine == _EM_X86_64 and data[4] != _ELF64):
        return f"a kernel for 32-bit x86; {_ONLY}"
    if machine != _EM_X86_64:
        return f"a kernel for {ELF_MACHINES[machine]}; {_ONLY}"
    return _program(data)


def _program(data: bytes) -> str | None:
    """What a program in the address space of a process is, which no kernel of x86-64 lies in."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    loads = 0
    for number in range(min(count, _MOST_HEADERS)):
        at = table + size * number
        if at + 32 > len(data):
            return None
        kind, _flags, _offset, vaddr = struct.unpack_from("<IIQQ", data, at)
        if kind == _PT_LOAD and vaddr >= START_KERNEL_MAP:
            return None
        loads += kind == _PT_LOAD
    if not loads:
        return None
    if b"Linux version " in data:
        return (
            "user-mode Linux: a program that runs on another kernel; its memory is that of a process, and "
            "no image of a machine"
        )
    return "a program, not a kernel; give a vmlinuz or a package"


def _first_bytes(data: bytes) -> bytes:
    """What a gzip file begins with; empty if it is damaged."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[:4096], _HEAD)
    except zlib.error:
        return b""
