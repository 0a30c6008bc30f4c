"""Raw images, LiME and ELF cores: what they hold, and what their headers only promise."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import source

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.elf_core import parse_elf_core
from hybridbridge_vol.memory_image.lime import parse_lime
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import NotInImage
from hybridbridge_vol.memory_image.runs import Run

MIB = 1 << 20


def lime(*ranges: tuple[int, bytes]) -> bytes:
    parts = [
        struct.pack("<IIQQQ", 0x4C694D45, 1, start, start + len(data) - 1, 0) + data for start, data in ranges
    ]
    return b"".join(parts)


def elf_core(segments: list[tuple[int, int, int]], data: bytes = b"", kind: int = 4) -> bytes:
    """`(paddr, size, offset)` program headers, and the data behind them."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", kind, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    table = b"".join(
        struct.pack("<IIQQQQQQ", 1, 4, offset, 0, paddr, size, size, 0) for paddr, size, offset in segments
    )
    return head + table + data


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


def test_elf_cores_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "dump.elf"
    path.write_bytes(
        elf_core([(0, 3 * MIB, 4096), (4 << 30, MIB, 4096 + 3 * MIB)]).ljust(4096, b"\0")
        + bytes(3 * MIB)
        + b"x" * MIB
    )
    with open_image(path) as image:
        assert image.mappable
        assert image.read((4 << 30) + 5, 3) == b"xxx"
        assert image.run_at(3 * MIB) is None


def test_an_elf_program_is_not_a_memory_image(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(elf_core([], kind=2) + bytes(4 * MIB))
    with pytest.raises(ImageError, match="program"):
        open_image(path)


def test_overlapping_ranges_are_cut_to_what_is_new() -> None:
    data = elf_core([(0x1000, 0x2000, 0x1000), (0, 0x5000, 0x4000)]).ljust(0x9000, b"\0")
    contents = parse_elf_core(source(data))
    assert contents.runs == [Run(0, 0x1000, 0x4000), Run(0x1000, 0x2000, 0x1000), Run(0x3000, 0x2000, 0x7000)]
    assert contents.missing == []


@given(st.binary(max_size=400))
def test_random_bytes_behind_a_lime_header_do_no_harm(tail: bytes) -> None:
    data = lime((0, b"abc")) + tail
    assert_disjoint_and_inside(parse_lime(source(data)).runs, len(data))


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 47), st.integers(0, 1 << 47), st.integers(0, 1 << 20)), max_size=12
    )
)
def test_hostile_program_headers_give_disjoint_runs_inside_the_file(
    segments: list[tuple[int, int, int]],
) -> None:
    data = elf_core(segments)
    try:
        contents = parse_elf_core(source(data))
    except ImageError:
        return
    assert_disjoint_and_inside(contents.runs, len(data))


def assert_disjoint_and_inside(runs: Sequence[Run], size: int) -> None:
    ends = 0
    for run in runs:
        assert run.paddr >= ends
        assert 0 <= run.offset
        assert run.offset + run.size <= size
        ends = run.paddr + run.size


@pytest.mark.parametrize("table", [0, 1 << 62, (1 << 64) - 1])
def test_an_elf_core_whose_headers_lie_nowhere_is_damaged(tmp_path: Path, table: int) -> None:
    data = bytearray(elf_core([(0, 4 * MIB, 4096)]) + bytes(4 * MIB))
    struct.pack_into("<Q", data, 32, table)
    path = tmp_path / "dump.elf"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="ELF core"):
        open_image(path)


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ImageError, match="regular file"):
        open_image(tmp_path / "fifo")


def test_many_small_ranges_under_a_large_one_cost_little() -> None:
    small = [(page * 0x2000, 0x1000, 0) for page in range(2000)]
    data = elf_core([*small, (0, 0x2000 * 2000, 0)]).ljust(0x2000 * 2000, b"\0")
    contents = parse_elf_core(source(data))
    assert len(contents.runs) == 3999  # the first two pages touch in the file too
    assert contents.missing == []
    assert_disjoint_and_inside(contents.runs, len(data))
