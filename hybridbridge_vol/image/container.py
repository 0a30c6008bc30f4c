"""The bzImage container: from the file that a boot loader loads to the kernel's ELF.

Format: Documentation/arch/x86/boot.rst. The payload is compressed with whatever the kernel was configured for;
behind the ELF come the relocations (see `relocations`).
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from hybridbridge_vol.errors import KernelFileError

MAX_KERNEL_SIZE = 256 << 20
"""Bytes a decompressed kernel may have; distributions' are 40 to 80 MB, KERNEL_IMAGE_SIZE is 1 GiB."""

SETUP_HEADER_OFFSET = 0x1F1
SETUP_HEADER_END = 0x290
_BOOT_MAGIC_OFFSET = 0x202
_PAYLOAD_FIELDS = 0x248  # payload_offset, payload_length: protocol 2.08
_DEFAULT_SETUP_SECTORS = 4
_LZ4_LEGACY_BLOCK = 8 << 20
"""Size of a decompressed block of the legacy LZ4 frame (`lz4 -l`, which scripts/Makefile.lib uses)."""


@dataclass(frozen=True)
class BzImage:
    """`setup_header` is the file from 0x1f1 to 0x290, as it goes into boot_params; `vmlinux` the ELF and what
    follows it, decompressed."""

    setup_header: bytes
    vmlinux: bytes


def parse_bzimage(data: bytes, name: str) -> BzImage:
    """Take a bzImage apart; `name` is the file to name in a KernelFileError."""
    if len(data) < SETUP_HEADER_END or data[_BOOT_MAGIC_OFFSET : _BOOT_MAGIC_OFFSET + 4] != b"HdrS":
        if data[:4] == b"\x7fELF":
            raise KernelFileError(
                f"{name}: a bare ELF kernel without relocations; give the vmlinuz (bzImage) of the same package"
            )
        raise KernelFileError(f"{name}: not a Linux kernel (no boot header); give a vmlinuz, a .deb or a .rpm")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_FIELDS)
    start = ((data[SETUP_HEADER_OFFSET] or _DEFAULT_SETUP_SECTORS) + 1) * 512 + offset
    payload = data[start : start + length]
    if not length or len(payload) < length:
        raise KernelFileError(f"{name}: truncated kernel ({len(data)} bytes, {start + length} expected); fetch it again")
    vmlinux = decompress(payload, name)
    if vmlinux[:5] != b"\x7fELF\x02":
        raise KernelFileError(f"{name}: its payload is not a 64-bit ELF kernel")
    return BzImage(bytes(data[SETUP_HEADER_OFFSET:SETUP_HEADER_END]), vmlinux)


def decompress(payload: bytes, name: str) -> bytes:
    """Decompress a kernel payload by its magic bytes (scripts/extract-vmlinux knows the same list)."""
    for magic, method in _METHODS:
        if payload.startswith(magic):
            try:
                return _bounded(method(payload), name)
            except KernelFileError:
                raise
            except Exception as error:  # each library has errors of its own; hostile input reaches them all
                raise KernelFileError(f"{name}: damaged kernel ({error}); fetch it again") from None
    raise KernelFileError(f"{name}: kernel compressed in an unknown way (begins with {payload[:6].hex()})")


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_KERNEL_SIZE:
        raise KernelFileError(f"{name}: its kernel is larger than {MAX_KERNEL_SIZE >> 20} MiB decompressed; not a kernel")
    return data


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload, MAX_KERNEL_SIZE + 1)


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload, MAX_KERNEL_SIZE + 1)


def _lzma(payload: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload, MAX_KERNEL_SIZE + 1)


def _bzip2(payload: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, MAX_KERNEL_SIZE + 1)


def _zstd(payload: bytes) -> bytes:
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(payload) as reader:
        return reader.read(MAX_KERNEL_SIZE + 1)


def _lz4_legacy(payload: bytes) -> bytes:
    import lz4.block

    blocks: list[bytes] = []
    offset = 4
    while offset + 4 <= len(payload):
        (size,) = struct.unpack_from("<I", payload, offset)
        if size == 0 or offset + 4 + size > len(payload):
            break  # the last four bytes of the payload are the decompressed size
        block = payload[offset + 4 : offset + 4 + size]
        blocks.append(lz4.block.decompress(block, uncompressed_size=_LZ4_LEGACY_BLOCK))
        if len(blocks) * _LZ4_LEGACY_BLOCK > MAX_KERNEL_SIZE + _LZ4_LEGACY_BLOCK:
            break
        offset += 4 + size
    return b"".join(blocks)


_METHODS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", _gzip),
    (b"\xfd7zXZ\0", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"\x02\x21\x4c\x18", _lz4_legacy),
    (b"BZh", _bzip2),
    (b"\x5d\0\0", _lzma),
)
