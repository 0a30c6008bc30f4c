"""Pieces of files, attributes and extents: pure functions on what the kernel answers."""

from __future__ import annotations

import os
import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.guest.file_attributes import parse_statx
from hybridbridge_vol.guest.file_content import Piece, PieceKind, merged, missing_ranges
from hybridbridge_vol.guest.file_extents import parse_extents, request

KINDS = st.sampled_from(list(PieceKind))


@st.composite
def contents(draw: st.DrawFn) -> list[Piece]:
    pieces, offset = [], 0
    for kind in draw(st.lists(KINDS, max_size=12)):
        size = draw(st.integers(1, 5)) * 4096
        data = os.urandom(size) if kind is PieceKind.DATA else b""
        reason = draw(st.sampled_from(["locked", "absent"])) if kind is PieceKind.MISSING else ""
        pieces.append(Piece(kind, offset, size, data, reason))
        offset += size
    return pieces


@given(contents())
def test_merging_keeps_every_byte_in_its_place(pieces: list[Piece]) -> None:
    result = list(merged(pieces))
    assert [piece.offset for piece in result] == [0, *(piece.end for piece in result)][: len(result)]
    of = [(piece.kind, piece.reason) for piece in pieces for _byte in range(piece.size // 4096)]
    assert [(piece.kind, piece.reason) for piece in result for _byte in range(piece.size // 4096)] == of
    assert b"".join(piece.data for piece in result) == b"".join(piece.data for piece in pieces)


@given(contents())
def test_neighbouring_missing_ranges_of_one_reason_are_one(pieces: list[Piece]) -> None:
    missing = missing_ranges(merged(pieces))
    for first, second in pairwise(missing):
        assert first.offset + first.size < second.offset or first.reason != second.reason


def test_statx_gives_all_four_times(tmp_path: os.PathLike[str]) -> None:
    """The layout is held to the running kernel's own answer."""
    import ctypes

    path = os.path.join(tmp_path, "file")
    with open(path, "wb") as file:
        file.write(b"x" * 5000)
    os.utime(path, ns=(1_000_000_001_000_000_000, 2_000_000_000_500_000_000))
    buffer = ctypes.create_string_buffer(256)
    assert ctypes.CDLL(None).syscall(332, -100, path.encode(), 0, 0xFFF, buffer) == 0
    seen, truth = parse_statx(buffer.raw), os.stat(path)
    assert seen.as_stat().mode == truth.st_mode
    assert (seen.ino, seen.dev, seen.nlink) == (truth.st_ino, truth.st_dev, truth.st_nlink)
    assert (seen.size, seen.blocks, seen.uid, seen.gid) == (5000, truth.st_blocks, truth.st_uid, truth.st_gid)
    assert (seen.atime, seen.mtime) == (1_000_000_001.0, 2_000_000_000.5)
    assert seen.ctime == truth.st_ctime_ns // 1000 / 1e6  # cut to microseconds


def test_extents_that_hold_no_plain_bytes_are_not_plain() -> None:
    answer = bytearray(request(0, 1 << 20, 3))
    struct.pack_into("<I", answer, 20, 3)
    for number, flags in enumerate((0, 0x8, 0x801)):
        struct.pack_into("<QQQ16xI", answer, 32 + 56 * number, 4096 * number, 1 << 20, 4096, flags)
    extents = list(parse_extents(bytes(answer)))
    assert [extent.is_plain for extent in extents] == [True, False, False]
    assert [extent.is_last for extent in extents] == [False, False, True]


@given(st.binary(max_size=600))
def test_no_answer_gives_more_extents_than_it_has_room_for(data: bytes) -> None:
    if len(data) >= 32:
        assert len(list(parse_extents(data))) <= (len(data) - 32) // 56
