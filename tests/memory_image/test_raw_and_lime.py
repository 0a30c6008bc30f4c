"""Raw images and LiME in each of its formats: what they hold, and what their headers only promise."""

from __future__ import annotations

import os
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import source
from test_runs import assert_disjoint_and_inside
from vmware_writer import boot_params

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.lime import parse_lime
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import MAX_RUNS, NotInImage
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.memory_image.zlib_stream import FIRST_SPACING, ZlibStream

MIB = 1 << 20


def lime(*ranges: tuple[int, bytes]) -> bytes:
    parts = [
        struct.pack("<IIQQQ", 0x4C694D45, 1, start, start + len(data) - 1, 0) + data for start, data in ranges
    ]
    return b"".join(parts)


def test_a_raw_image_is_one_run_from_0(tmp_path: Path) -> None:
    path = tmp_path / "dump.raw"
    path.write_bytes(bytes(4 * MIB) + b"end")
    with open_image(path) as image:
        assert image.runs == (Run(0, 4 * MIB + 3, 0),)
        assert image.mappable
        assert image.read(4 * MIB, 3) == b"end"
        assert image.read_available(4 * MIB, 4) is None
        with pytest.raises(NotInImage):
            image.read(1 << 40, 1)


def test_a_huge_sparse_image_costs_nothing_to_open(tmp_path: Path) -> None:
    path = tmp_path / "dump.raw"
    with open(path, "wb") as stream:
        stream.truncate(5 << 30)
    with open_image(path) as image:
        assert image.end_paddr == 5 << 30
        assert image.read(4 << 30, 8) == bytes(8)


def test_lime_ranges_lie_where_their_headers_say(tmp_path: Path) -> None:
    path = tmp_path / "dump.lime"
    path.write_bytes(lime((0, b"a" * MIB), (2 * MIB, b"b" * 3 * MIB)))
    with open_image(path) as image:
        assert image.format_name == "LiME"
        assert not image.mappable
        assert image.read(MIB - 1, 1) == b"a"
        assert image.read_available(MIB, 1) is None
        assert image.offset_of(2 * MIB) == 64 + MIB
        assert image.read(2 * MIB, 4) == b"bbbb"


def test_a_truncated_lime_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "dump.lime"
    path.write_bytes(lime((0, bytes(8 * MIB)))[: 5 * MIB])
    with open_image(path) as image:
        assert image.missing == ((5 * MIB - 32, 3 * MIB + 32),)


def test_more_lime_ranges_than_can_be_mapped_are_read(tmp_path: Path) -> None:
    count = MAX_RUNS + 5
    path = tmp_path / "dump.lime"
    path.write_bytes(lime(*((0x3000 * index, struct.pack("<Q", index) * 512) for index in range(count))))
    with open_image(path) as image:
        assert image.memory_size == 4096 * count
        assert len(image.runs) <= MAX_RUNS
        assert image.read(0x3000 * (count - 1), 8) == struct.pack("<Q", count - 1)
        assert image.read_available(0x1000, 1) is None


@given(st.binary(max_size=400))
def test_random_bytes_behind_a_lime_header_do_no_harm(tail: bytes) -> None:
    data = lime((0, b"abc")) + tail
    assert_disjoint_and_inside(parse_lime(source(data)).runs, len(data))


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ImageError, match="regular file"):
        open_image(tmp_path / "fifo")


# --- LiME, compress=1 ---


def limes_stream(data: bytes) -> bytes:
    """One zlib stream with the window and the memory that LiME's src/deflate.c takes."""
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, 11, 5)
    return packer.compress(data) + packer.flush()


def noisy(size: int, seed: int = 1) -> bytes:
    """Memory that is hard to compress in some places and easy in others."""
    noise = random.Random(seed)
    pieces = [noise.randbytes(5000) + bytes(noise.randrange(20000)) for _ in range(size // 10000)]
    return b"".join(pieces).ljust(size, b"\1")[:size]


def test_compressed_lime_is_read_like_lime(tmp_path: Path) -> None:
    plain = lime((0, noisy(5 * MIB)), (8 * MIB, noisy(7 * MIB, 2)))
    (tmp_path / "plain").write_bytes(plain)
    (tmp_path / "packed").write_bytes(limes_stream(plain))
    with open_image(tmp_path / "plain") as image, open_image(tmp_path / "packed") as packed:
        assert packed.format_name == "LiME (compressed)"
        assert packed.runs == image.runs
        assert packed.missing == ()
        for paddr in (14 * MIB, 0, 9 * MIB + 123, 4 * MIB, 15 * MIB - 8):
            assert packed.read(paddr, 8) == image.read(paddr, 8)
        assert packed.read(8 * MIB, 7 * MIB) == image.read(8 * MIB, 7 * MIB)
        assert packed.read_available(6 * MIB, 1) is None


def test_a_compressed_raw_image_of_lime_is_read_too(tmp_path: Path) -> None:
    memory = noisy(4 * MIB)
    (tmp_path / "dump").write_bytes(limes_stream(memory))
    with open_image(tmp_path / "dump") as image:
        assert image.format_name == "raw (compressed by LiME)"
        assert image.read(3 * MIB, MIB) == memory[3 * MIB :]


def test_a_compressed_lime_that_was_cut_says_what_is_missing(tmp_path: Path) -> None:
    packed = limes_stream(lime((0, noisy(8 * MIB))))
    (tmp_path / "dump").write_bytes(packed[: len(packed) // 2])
    with open_image(tmp_path / "dump") as image:
        ((start, size),) = image.missing
        assert start + size == 8 * MIB
        assert 2 * MIB < start < 6 * MIB
        assert image.read_available(start - 8, 8) is not None
        assert image.read_available(start, 1) is None


STREAM = noisy(6 * FIRST_SPACING, 3)
PACKED = ZlibStream(source(zlib.compress(STREAM)))


@given(st.integers(0, len(STREAM) + 100), st.integers(0, 3 * FIRST_SPACING))
def test_any_piece_of_a_zlib_stream_is_the_piece_of_what_was_packed(offset: int, size: int) -> None:
    assert PACKED.size == len(STREAM)
    assert PACKED.read_at(offset, size) == STREAM[offset : offset + size]


@given(st.binary(min_size=1, max_size=400), st.integers(0, 100_000))
def test_a_damaged_zlib_stream_ends_where_it_is_damaged(junk: bytes, at: int) -> None:
    data = bytearray(zlib.compress(STREAM[:300_000]))
    data[at : at + len(junk)] = junk
    stream = ZlibStream(source(bytes(data)))
    assert len(stream.read_at(0, 1 << 40)) == stream.size <= 1032 * len(data)


# --- LiME, format=raw ---

E820 = [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (MIB, 9 * MIB, 1), (10 * MIB, MIB, 2), (4 << 30, 3 * MIB, 1)]
SYSTEM_RAM = [(0x1000, 0x9EC00), (MIB, 9 * MIB), (4 << 30, 3 * MIB)]
"""What /proc/iomem says on a machine with this memory map."""


def test_ranges_without_addresses_are_placed_by_the_guests_own_memory_map(tmp_path: Path) -> None:
    memory = {start: bytearray(noisy(size, start)) for start, size in SYSTEM_RAM}
    memory[MIB][0x5000:0x6000] = boot_params(E820)
    (tmp_path / "dump").write_bytes(b"".join(memory.values()))
    with open_image(tmp_path / "dump") as image:
        assert "memory map" in image.format_name
        assert [(run.paddr, run.size) for run in image.runs] == SYSTEM_RAM
        for start, size in SYSTEM_RAM:
            assert image.read(start, size) == memory[start]


def test_a_raw_image_whose_size_the_memory_map_does_not_explain_stays_raw(tmp_path: Path) -> None:
    memory = bytearray(noisy(5 * MIB + 0x400))
    memory[0x5000:0x6000] = boot_params(E820)
    (tmp_path / "dump").write_bytes(memory)
    with open_image(tmp_path / "dump") as image:
        assert image.format_name == "raw"
