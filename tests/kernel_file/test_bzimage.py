"""The bzImage container: every compression, and nothing taken for a kernel that is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_makers import COMPRESSORS, bzimage

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.bzimage import (
    MAX_KERNEL_SIZE,
    SETUP_HEADER_END,
    SETUP_HEADER_OFFSET,
    parse_bzimage,
)

VMLINUX = b"\x7fELF\x02\x01\x01" + b"a kernel, all of it. " * 5000
METHODS = sorted(COMPRESSORS)


@pytest.mark.parametrize("method", METHODS)
def test_every_compression_gives_the_same_kernel(method: str) -> None:
    data = bzimage(COMPRESSORS[method](VMLINUX))
    image = parse_bzimage(data, "vmlinuz")
    assert image.vmlinux == VMLINUX
    assert image.setup_header == data[SETUP_HEADER_OFFSET:SETUP_HEADER_END]


def test_lz4_blocks_of_eight_mebibytes_are_joined() -> None:
    kernel = b"\x7fELF\x02\x01\x01" + b"0123456789abcdef" * (17 << 16)
    assert parse_bzimage(bzimage(COMPRESSORS["lz4"](kernel)), "vmlinuz").vmlinux == kernel


def test_no_setup_sectors_means_four() -> None:
    data = bytearray(bzimage(COMPRESSORS["gzip"](VMLINUX), sectors=4))
    data[SETUP_HEADER_OFFSET] = 0
    assert parse_bzimage(bytes(data), "vmlinuz").vmlinux == VMLINUX


@pytest.mark.parametrize("method", METHODS)
def test_a_truncated_payload_is_an_error(method: str) -> None:
    whole = COMPRESSORS[method](VMLINUX)
    cut = whole[: len(whole) // 2] + whole[-4:]
    with pytest.raises(KernelFileError, match="vmlinuz: damaged kernel .*fetch it again"):
        parse_bzimage(bzimage(cut), "vmlinuz")


@pytest.mark.parametrize("method", METHODS)
def test_a_kernel_is_not_decompressed_beyond_its_stated_size(method: str) -> None:
    lying = COMPRESSORS[method](VMLINUX + bytes(32 << 20))[:-4] + struct.pack("<I", len(VMLINUX))
    with pytest.raises(KernelFileError, match="damaged kernel"):
        parse_bzimage(bzimage(lying), "vmlinuz")


def test_an_absurd_size_is_refused() -> None:
    payload = COMPRESSORS["xz"](VMLINUX)[:-4] + struct.pack("<I", MAX_KERNEL_SIZE + 1)
    with pytest.raises(KernelFileError, match="claims 256 MiB of kernel"):
        parse_bzimage(bzimage(payload), "vmlinuz")


def test_a_truncated_file_is_reported_with_its_size() -> None:
    data = bzimage(COMPRESSORS["gzip"](VMLINUX))
    with pytest.raises(KernelFileError, match=r"vmlinuz: truncated kernel \(4900 of \d+ bytes\)"):
        parse_bzimage(data[:4900], "vmlinuz")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"MZ" + bytes(4000), "no boot header"),
        (bzimage(COMPRESSORS["gzip"](VMLINUX), version=0x204), "before 2008"),
        (bzimage(b"????" + bytes(100)), "compressed in an unknown way"),
        (bzimage(COMPRESSORS["gzip"](b"\x7fELF\x01\x01" + bytes(100))), "not a 64-bit x86 kernel"),
    ],
)
def test_a_file_that_is_not_a_kernel_is_reported_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(KernelFileError, match=f"^some file: .*{reason}.*; (give|fetch)") as caught:
        parse_bzimage(data, "some file")
    assert "\n" not in str(caught.value)


@given(st.sampled_from(METHODS), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_gives_a_clear_error_or_no_error(method: str, place: int, junk: bytes) -> None:
    data = bytearray(bzimage(COMPRESSORS[method](VMLINUX)))
    place %= len(data)
    data[place : place + len(junk)] = junk
    try:
        assert len(parse_bzimage(bytes(data), "vmlinuz").vmlinux) <= MAX_KERNEL_SIZE
    except KernelFileError as error:
        assert "\n" not in str(error)


@given(
    st.sampled_from(
        [b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"BZh9", b"\x5d\0\0"]
    ),
    st.binary(),
)
def test_random_payloads_raise_nothing_else(magic: bytes, rest: bytes) -> None:
    with pytest.raises(KernelFileError):
        parse_bzimage(bzimage(magic + rest), "vmlinuz")
