"""Kernels that can never be used are named for what they are, in packages too."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from kernel_makers import COMPRESSORS, bzimage, elf
from package_makers import deb

from hybridbridge_vol.errors import ForeignKernel, KernelFileError
from hybridbridge_vol.kernel_file.foreign_kernels import what_foreign
from hybridbridge_vol.kernel_file.loading import load_kernel
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll

ARM64 = bytearray(b"MZ" + bytes(4094))
ARM64[0x38:0x3C] = b"ARM\x64"
RISCV = bytearray(4096)
RISCV[0x30:0x3C] = b"RISCV\0\0\0RSC\x05"
ARM = bytearray(4096)
ARM[0x24:0x28] = struct.pack("<I", 0x016F2818)
ZBOOT = b"MZ\0\0zimg" + bytes(4088)


def elf_of(machine: int, bits: int = 2, order: int = 1) -> bytes:
    head = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    return head + struct.pack("<HH" if order == 1 else ">HH", 2, machine) + bytes(4096)


def uml(text: bytes) -> bytes:
    """A program as user-mode Linux is linked (arch/um/kernel/uml.lds.S, arch/x86/Makefile.um)."""
    return elf([(0x1000, 0x60000000, 0x60000000, text, len(text))], 0x6002A520)


# cases are told by their numbers: gzip's bytes, which have the time in them, differ between processes
FOREIGN = [
    (bytes(ARM64), "a kernel for arm64"),
    (gzip.compress(bytes(ARM64)), "a kernel for arm64"),
    (bytes(ARM64) + b"Linux version 6.1.0" + bytes(2 << 20), "a kernel for arm64"),
    (bytes(RISCV), "a kernel for RISC-V"),
    (bytes(ARM), "a kernel for 32-bit ARM"),
    (ZBOOT, "an EFI zboot image"),
    (elf_of(183), "a kernel for arm64"),
    (elf_of(21, order=2), "a kernel for 64-bit PowerPC"),
    (elf_of(3, bits=1), "a kernel for 32-bit x86"),
    (bzimage(COMPRESSORS["gzip"](elf_of(3, bits=1))), "a kernel for 32-bit x86"),
    (uml(b"Linux version 6.1.176 (buildd@x) (gcc) #1 Sat Jul 4"), "user-mode Linux"),
    (uml(b"another program"), "a program, not a kernel"),
]


@pytest.mark.parametrize(
    ("data", "what"), FOREIGN, ids=[f"{n} {what}" for n, (_data, what) in enumerate(FOREIGN)]
)
def test_a_kernel_of_another_kind_is_named_and_not_used(data: bytes, what: str) -> None:
    with pytest.raises(ForeignKernel, match=f"^vmlinuz: {what}"):
        load_kernel(data, "vmlinuz")


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("boot/vmlinuz-6.1.0-50-arm64", bytes(ARM64), "a kernel for arm64"),
        ("usr/bin/linux.uml", uml(b"Linux version 6.1.176 (buildd@x) (gcc) #1 Sat"), "user-mode Linux"),
    ],
)
def test_a_package_of_one_is_not_taken_for_a_package_of_modules(
    tmp_path: Path, name: str, data: bytes, what: str
) -> None:
    """It has modules, whose kernel can never be added."""
    path = tmp_path / "linux.deb"
    path.write_bytes(deb([(name, 0o100644, data), ("lib/modules/6/fuse.ko", 0o100644, elf_of(62))]))
    with pytest.raises(KernelFileError, match=f"^{path}: {what}"):
        enroll(Store(tmp_path / "store"), path)
    assert Store(tmp_path / "store").kernels() == []


@pytest.mark.parametrize("size", [0, 3, 16, 40, 63])
def test_a_truncated_header_is_left_to_others(size: int) -> None:
    assert what_foreign(elf_of(62)[:size]) is None
    assert what_foreign(gzip.compress(bytes(ARM64))[:size] or b"") in (None, what_foreign(bytes(ARM64)))
