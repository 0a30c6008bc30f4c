"""AVML's compressed files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from avml_writer import avml
from hypothesis import given
from hypothesis import strategies as st
from sources import source

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.memory_image.avml import AvmlPages
from hybridbridge_vol.memory_image.compression import CompressionError, unpack_snappy
from hybridbridge_vol.memory_image.open import open_image

MIB = 1 << 20


def opened(data: bytes) -> AvmlPages:
    return AvmlPages(source(data))


def test_ranges_lie_where_their_headers_say(tmp_path: Path) -> None:
    path = tmp_path / "dump.avml"
    path.write_bytes(avml([(0x1000, b"ab" * 0x20000), (4 * MIB, bytes(range(256)) * 12 * 1024)]))
    with open_image(path) as image:
        assert image.format_name == "AVML"
        assert [(run.paddr, run.size) for run in image.runs] == [(0x1000, 0x40000), (4 * MIB, 3 * MIB)]
        assert image.read(0x1000 + 0xFFFF, 3) == b"bab"  # from two frames
        assert image.read_available(0x41000, 1) is None
        assert image.read(7 * MIB - 2, 2) == b"\xfe\xff"
        assert image.missing == ()


LONG = avml([(0, b"".join(struct.pack("<I", i * i) for i in range(50_000)))])


@given(st.integers(32, 3000))
def test_a_truncated_file_says_what_is_missing(size: int) -> None:
    pages = opened(LONG[: len(LONG) - size])
    (start, length) = pages.missing[0]
    assert start + length == 200_000
    assert sum(size for _start, size in pages.ranges) == start
    assert pages.read(start, 1) == b""


def test_a_real_image_as_avml_gives_the_same_answer_as_raw(lab: Any, tmp_path: Path) -> None:
    sample = lab.sample("7.x")
    raw = sample.raw.read_bytes()
    path = tmp_path / "dump.avml"
    path.write_bytes(avml([(0, raw[:0xA0000]), (MIB, raw[MIB:])]))
    with open_session(path, lab.store.root) as session:
        assert session.bridge.image.format_name == "AVML"
        for name in ("status", "stat", "cmdline", "maps"):
            assert session.files.read(f"/proc/1/{name}") == sample.truth.file(f"/proc/1/{name}")


def test_ranges_that_overlap_are_one(tmp_path: Path) -> None:
    path = tmp_path / "dump.avml"
    path.write_bytes(avml([(0, bytes(2 * MIB)), (MIB, bytes(2 * MIB))]))
    with open_image(path) as image:
        assert [(run.paddr, run.size) for run in image.runs] == [(0, 3 * MIB)]


def test_a_file_that_ends_before_any_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dump.avml"
    path.write_bytes(LONG[:40])
    with pytest.raises(ImageError, match="AVML"):
        open_image(path)


def test_a_damaged_frame_is_missing_and_the_others_are_not() -> None:
    data = bytearray(avml([(0, b"a" * 0x10000 + b"b" * 0x10000)]))
    at = data.index(b"a")
    data[at - 3 : at + 8] = b"\xff" * 11
    pages = opened(bytes(data))
    assert b"a" * 9 not in pages.read(0, 9)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_random_damage_does_no_harm(noise: bytes, at: int) -> None:
    data = bytearray(avml([(0, b"abc" * 5000), (0x8000, bytes(0x3000))]))
    data[at : at + len(noise)] = noise
    pages = opened(bytes(data))
    for start, size in pages.ranges:
        assert len(pages.read(start, size)) <= size


@given(st.binary(max_size=100))
def test_random_snappy_blocks_end_in_an_error_or_within_the_limit(data: bytes) -> None:
    try:
        assert len(unpack_snappy(data, 4096)) <= 4096
    except CompressionError:
        pass
