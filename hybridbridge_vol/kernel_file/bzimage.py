"""The bzImage container: the kernel's ELF in the file that a boot loader loads.

Format: Documentation/arch/x86/boot.rst. The payload is compressed by the method that the kernel was
configured for; its last four bytes are the decompressed size (arch/x86/boot/compressed/mkpiggy.c relies on
it: gzip ends like that by itself, for the others scripts/Makefile.lib appends it). The ELF is followed by the
relocations (see `relocations`).
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import lz4.block
import zstandard

from hybridbridge_vol.errors import ForeignKernel, KernelFileError
from hybridbridge_vol.kernel_file.foreign_kernels import KINDS, what_foreign

MAX_KERNEL_SIZE = 256 << 20
"""Bytes a decompressed kernel may have; distributions' are 40 to 80 MB, KERNEL_IMAGE_SIZE is 1 GiB."""

SETUP_HEADER_OFFSET = 0x1F1
SETUP_HEADER_END = 0x290
NO_SETUP_HEADER = bytes(SETUP_HEADER_END - SETUP_HEADER_OFFSET)
"""What stands in the place of a boot header where the file has none."""
_BOOT_MAGIC, _BOOT_MAGIC_OFFSET = b"HdrS", 0x202
_VERSION_OFFSET = 0x206
_PAYLOAD_FIELDS = 0x248  # payload_offset, payload_length
_PAYLOAD_PROTOCOL = 0x208
"""The boot protocol that brought the payload's fields (Linux 2.6.26)."""
_DEFAULT_SETUP_SECTORS = 4
_ELF64_MAGIC = b"\x7fELF\x02\x01"
_LZ4_LEGACY_BLOCK = 8 << 20
"""Size of a decompressed block of the legacy LZ4 frame (`lz4 -l`, which scripts/Makefile.lib uses)."""
_LZMA_MEMORY = 512 << 20
"""Bytes a decoder may take; scripts/xz_wrap.sh asks for a dictionary of at most 128 MiB."""


@dataclass(frozen=True)
class BzImage:
    """`setup_header` is the file from 0x1f1 to 0x290, as it goes into boot_params; `vmlinux` the ELF and what
    follows it, decompressed.
    """

    setup_header: bytes
    vmlinux: bytes


def is_elf(data: bytes) -> bool:
    """Whether it is a 64-bit little-endian ELF."""
    return data.startswith(_ELF64_MAGIC)


def is_bzimage(data: bytes) -> bool:
    """Whether it has the boot header of a kernel for a boot loader."""
    return len(data) >= SETUP_HEADER_END and data[_BOOT_MAGIC_OFFSET : _BOOT_MAGIC_OFFSET + 4] == _BOOT_MAGIC


def parse_bzimage(data: bytes, name: str) -> BzImage:
    """Parse a bzImage; `name` is the file to name in a KernelFileError."""
    foreign = what_foreign(data)
    if foreign is not None:
        raise ForeignKernel(f"{name}: {foreign}")
    if not data:
        raise KernelFileError(f"{name}: an empty file; give a vmlinuz or a package ({KINDS})")
    if not is_bzimage(data):
        raise KernelFileError(
            f"{name}: not a Linux kernel (no boot header); give a vmlinuz or a package ({KINDS})"
        )
    (version,) = struct.unpack_from("<H", data, _VERSION_OFFSET)
    if version < _PAYLOAD_PROTOCOL:
        raise KernelFileError(
            f"{name}: a kernel from before 2008 (boot protocol {version:#x}); give a newer one"
        )
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_FIELDS)
    start = ((data[SETUP_HEADER_OFFSET] or _DEFAULT_SETUP_SECTORS) + 1) * 512 + offset
    payload = data[start : start + length]
    if not length or len(payload) < length:
        raise KernelFileError(
            f"{name}: truncated kernel ({len(data)} of {start + length} bytes); fetch it again"
        )
    vmlinux = decompress(payload, name)
    foreign = what_foreign(vmlinux)
    if foreign is not None:
        raise ForeignKernel(f"{name}: {foreign}")
    if not is_elf(vmlinux):
        raise KernelFileError(f"{name}: its payload is not a 64-bit x86 kernel; give an amd64 kernel")
    return BzImage(bytes(data[SETUP_HEADER_OFFSET:SETUP_HEADER_END]), vmlinux)


def decompress(payload: bytes, name: str) -> bytes:
    """Decompress a kernel payload by its magic bytes (scripts/extract-vmlinux has the same list)."""
    method = next((method for magic, method in _METHODS if payload.startswith(magic)), None)
    if method is None or len(payload) < 8:
        raise KernelFileError(
            f"{name}: kernel compressed in an unknown way ({payload[:6].hex()}); give another build of it"
        )
    (size,) = struct.unpack_from("<I", payload, len(payload) - 4)
    if size > MAX_KERNEL_SIZE:
        raise KernelFileError(
            f"{name}: claims {size >> 20} MiB of kernel, more than {MAX_KERNEL_SIZE >> 20}; fetch it again"
        )
    try:
        vmlinux = method(payload, size)
    except Exception as error:  # noqa: BLE001 (each library has errors of its own, and hostile input reaches them all)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KernelFileError(f"{name}: damaged kernel ({reason}); fetch it again") from None
    if len(vmlinux) != size:
        raise KernelFileError(
            f"{name}: damaged kernel (its size is not the one that it states); fetch it again"
        )
    return vmlinux


# Each takes the payload and the expected size, and returns at most one byte more than that.


def _gzip(payload: bytes, size: int) -> bytes:
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload, size + 1)


def _xz(payload: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY).decompress(payload, size + 1)


def _lzma(payload: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY).decompress(payload, size + 1)


def _bzip2(payload: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, size + 1)


def _zstd(payload: bytes, size: int) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(payload) as reader:
        return reader.read(size + 1)


def _lz4_legacy(payload: bytes, size: int) -> bytes:
    blocks: list[bytes] = []
    missing = size
    offset = 4
    while missing > 0:
        (length,) = struct.unpack_from("<I", payload, offset)
        block = payload[offset + 4 : offset + 4 + length]
        blocks.append(lz4.block.decompress(block, uncompressed_size=min(missing, _LZ4_LEGACY_BLOCK)))
        if not blocks[-1]:
            raise ValueError("an empty block")
        missing -= len(blocks[-1])
        offset += 4 + length
    return b"".join(blocks)


_METHODS: tuple[tuple[bytes, Callable[[bytes, int], bytes]], ...] = (
    (b"\x1f\x8b", _gzip),
    (b"\xfd7zXZ\0", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"\x02\x21\x4c\x18", _lz4_legacy),
    (b"BZh", _bzip2),
    (b"\x5d\0\0", _lzma),
)
