"""kdump-compressed dumps, plain and flattened: what they hold, and what a damaged one does not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from elf_writer import note
from hypothesis import given
from hypothesis import strategies as st
from kdump_writer import LZO, PAGE, SNAPPY, ZSTD, flat, kdump, packed
from revived import revived
from sources import source

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.flattened import Flattened
from hybridbridge_vol.memory_image.kdump import MAX_FRAGMENTS, KdumpPages, parse_kdump
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import MAX_RUNS
from hybridbridge_vol.memory_image.ranges import merged

MIB = 1 << 20
A, B = b"a" * PAGE, bytes(range(256)) * 16


def opened(data: bytes) -> KdumpPages:
    return KdumpPages(source(data))


def test_pages_are_read_from_where_their_descriptors_say() -> None:
    dump = opened(kdump({0: packed(A), 1: packed(B), 70000: (B, 0)}))
    assert dump.ranges == [(0, 2 * PAGE), (70000 * PAGE, PAGE)]
    assert dump.read(PAGE - 1, 3) == b"a\0\1"
    assert dump.read(70000 * PAGE + 5, 2) == b"\5\6"
    assert dump.missing == []


def test_a_page_that_was_left_out_cannot_be_read_though_the_machine_had_it() -> None:
    dump = opened(kdump({0: packed(A), 2: packed(B)}, present=[1]))
    assert dump.ranges == [(0, 3 * PAGE)]
    assert dump.read(PAGE, 1) == b""
    assert dump.read(PAGE - 2, 4) == b"aa"
    assert dump.read(2 * PAGE, 2) == b"\0\1"


@pytest.mark.parametrize(
    "stored",
    [
        (b"no zlib", 1),
        (zlib.compress(A)[:-6], 1),
        (zlib.compress(A[:-1]), 1),
        (zlib.compress(bytes(10 << 20)), 0),
        (A[:-1], 0),
        (zlib.compress(A), LZO),
        (b"", 1),
    ],
)
def test_a_damaged_page_is_a_missing_page(stored: tuple[bytes, int]) -> None:
    dump = opened(kdump({0: packed(A), 1: stored, 2: packed(B)}))
    assert dump.read(PAGE, 1) == b""
    assert dump.read(2 * PAGE, 2) == b"\0\1"


def test_a_page_that_unpacks_to_more_than_a_page_costs_no_more_than_one() -> None:
    bomb = zlib.compress(bytes(4 << 20))
    assert len(bomb) > PAGE or opened(kdump({0: (bomb, 1)})).read(0, 1) in (b"", b"\0")


def test_snappy_pages() -> None:
    cramjam = pytest.importorskip("cramjam")
    stored = bytes(cramjam.snappy.compress_raw(B))
    dump = opened(
        kdump({0: (stored, SNAPPY), 1: (bytes(cramjam.snappy.compress_raw(bytes(1 << 16))), SNAPPY)})
    )
    assert dump.read(0, PAGE) == B
    assert dump.read(PAGE, 1) == b""


def test_zstd_pages() -> None:
    import zstandard

    pack = zstandard.ZstdCompressor().compress
    dump = opened(kdump({0: (pack(B), ZSTD), 1: (pack(bytes(1 << 20)), ZSTD)}))
    assert dump.read(0, PAGE) == B
    assert dump.read(PAGE, 1) == b""


LZO_PAGE = (b"pages that one has seen before, pages that one has not; " * 80)[:4000].ljust(PAGE, b"\0")
LZO1X_1 = bytes.fromhex(
    "000e70616765732074686174206f6e6520686173207365656e206265666f72652c20317c00016e6f743b325c0020000000000000"
    "00000000000000000043dd0000202b0000000100000000000000000000000000000000000000110000"
)
LZO1X_999 = bytes.fromhex(
    "3170616765732074686174206f6e6520686173207365656e206265666f72652c20317c00026e6f743b202000000000000000e6dc"
    "0020000000000000004edd0000203e0000110000"
)


@pytest.mark.parametrize("stored", [LZO1X_1, LZO1X_999], ids=["lzo1x_1", "lzo1x_999"])
def test_pages_that_liblzo2_compressed(stored: bytes) -> None:
    """What `lzo1x_1_compress` and `lzo1x_999_compress` of liblzo2 2.10 made of the page."""
    dump = opened(kdump({0: (stored, LZO), 1: (stored[:-9], LZO), 2: (b"\xff" * 20, LZO)}, status=LZO))
    assert dump.read(0, PAGE) == LZO_PAGE
    assert dump.read(PAGE, 1) == b""
    assert dump.read(2 * PAGE, 1) == b""


def test_an_lzo_page_that_unpacks_to_more_than_a_page_is_missing() -> None:
    import lzallright

    bomb = lzallright.LZOCompressor().compress(bytes(512 << 10))
    assert len(bomb) < PAGE
    assert opened(kdump({0: (bomb, LZO)})).read(0, 1) == b""


@given(st.binary(max_size=200), st.sampled_from([1, LZO, SNAPPY, ZSTD]))
def test_random_compressed_pages_are_missing_or_a_page(stored: bytes, how: int) -> None:
    assert len(opened(kdump({0: (stored, how)})).read(0, PAGE)) in (0, PAGE)


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        (0, ""),
        (1, ""),
        (2, " (cache pages)"),
        (24, " (user data, free pages)"),
        (31, " (cache pages, private cache pages, user data, free pages)"),
    ],
)
def test_the_kinds_of_pages_that_a_dump_level_leaves_out(level: int, kinds: str) -> None:
    data = kdump({0: packed(A), 3: packed(B)}, present=[1, 2], level=level)
    contents = parse_kdump(source(data))
    words = f"left out by makedumpfile, dump level {level}{kinds}"
    assert contents.left_out == f"8 KiB {words}"
    assert contents.why_absent(PAGE) == contents.why_absent(2 * PAGE + 5) == words
    assert contents.why_absent(0) is None and contents.why_absent(9 * PAGE) is None


def test_the_page_tables_of_each_cpu_are_in_the_notes_of_a_dump_that_qemu_wrote() -> None:
    notes = note(b"QEMU", bytes(416) + (0x1234000).to_bytes(8, "little") + bytes(16))
    data = kdump({0: packed(A)}, notes=notes)
    assert [cpu.cr3 for cpu in parse_kdump(source(data)).cpus] == [0x1234000]
    assert parse_kdump(source(kdump({0: packed(A)}))).cpus == []


def test_one_part_of_a_split_dump_is_refused() -> None:
    with pytest.raises(ImageError, match="--reassemble"):
        opened(kdump({0: packed(A)}, split=1))


def test_a_truncated_dump_says_from_where_on_pages_are_missing() -> None:
    pages = {page: (os.urandom(PAGE), 0) for page in range(64)}
    data = kdump(pages)
    dump = opened(data[: -10 * PAGE])
    assert dump.missing == [(54 * PAGE, 10 * PAGE)]
    assert dump.read(53 * PAGE, PAGE) == pages[53][0]
    assert dump.read(54 * PAGE, 1) == b""


def test_scattered_pages_become_few_ranges() -> None:
    scattered = ((page * PAGE, PAGE) for page in range(0, 10 * MAX_RUNS, 2))
    ranges = merged(scattered, MAX_RUNS)
    assert len(ranges) <= MAX_RUNS
    assert ranges[0][0] == 0
    assert sum(ranges[-1]) == (10 * MAX_RUNS - 1) * PAGE


def test_bitmaps_with_a_range_for_each_second_page_are_told_in_few_and_each_page_is_read() -> None:
    size = 2 * MAX_FRAGMENTS // 8
    data = bytearray(kdump({page: packed(B) for page in (0, 2, 4)}, present=[8 * size + 1]))
    bitmap = data[2 * PAGE : 2 * PAGE + size]
    data[2 * PAGE : 2 * PAGE + size] = bytes([bitmap[0] | 0x55]) + b"\x55" * (size - 1)
    dump = opened(bytes(data))
    assert len(dump.ranges) <= MAX_RUNS
    assert dump.ranges[0][0] == 0 and sum(dump.ranges[-1]) == (8 * size + 2) * PAGE
    assert (
        dump.left_out() == f"{(4 * size + 1 - 3) * PAGE >> 10:,} KiB left out by makedumpfile, dump level 0"
    )
    assert [dump.read(page * PAGE, PAGE) for page in (0, 1, 2, 4, 6)] == [B, b"", B, B, b""]


def test_only_where_pages_are_and_have_descriptors_may_the_file_hold_any() -> None:
    pages = {page: packed(B) for page in (3, 4, 40000)}
    data = bytearray(kdump(pages, present=range(50000)))
    dump = opened(bytes(data))
    assert [page for page in range(50000) if dump.may_hold(page * PAGE, 1)] == [3, 4, 40000]
    stored_at = 2 * PAGE + 2 * PAGE
    data[stored_at : stored_at + 50000 // 8] = b"\xff" * (50000 // 8)
    dump = opened(bytes(data))
    assert [page for page in range(50000) if dump.may_hold(page * PAGE, 1)] == [0, 1, 2]
    assert dump.may_hold(0, 50000 * PAGE) and not dump.may_hold(3 * PAGE, 50000 * PAGE)


def test_pieces_of_a_flattened_file_come_together() -> None:
    data = flat([(0, b"old"), (10, b"klm"), (3, b"defghij"), (0, b"abc")])
    whole = Flattened(source(data))
    assert whole.read_at(0, 100) == b"abcdefghijklm"
    assert whole.read_at(4, 8) == b"efghijkl"
    assert (whole.size, whole.truncated) == (13, False)
    assert Flattened(source(data, len(data) - 1)).truncated


def test_a_flattened_dump_is_opened_as_what_it_is(tmp_path: Path) -> None:
    pages = {page: packed(A) for page in range(1024)}
    data = kdump(pages)
    half = len(data) // 2
    (tmp_path / "dump").write_bytes(flat([(half, data[half:]), (0, data[:half])]))
    with open_image(tmp_path / "dump") as image:
        assert image.format_name == "kdump (flattened)"
        assert not image.mappable
        assert image.read(1023 * PAGE, 2) == b"aa"
        assert image.read_available(1024 * PAGE, 1) is None
        assert image.offset_of(0) is None


@given(st.binary(max_size=300), st.integers(0, 8191), st.integers(0, 1 << 16))
def test_damaged_headers_do_no_harm(junk: bytes, at: int, size: int) -> None:
    data = bytearray(kdump({0: packed(A), 3: packed(B)}, present=[1]))
    data[at : at + len(junk)] = junk
    try:
        dump = KdumpPages(source(bytes(data), size))
    except ImageError as error:
        assert "\n" not in str(error)
        return
    for page in range(5):
        assert len(dump.read(page * PAGE, PAGE)) in (0, PAGE)


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 63), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
        max_size=3,
    )
)
def test_hostile_descriptors_read_nothing(descriptors: list[tuple[int, int, int]]) -> None:
    data = kdump({page: (b"", 0) for page in range(len(descriptors) or 1)})
    data = data[: 4 * PAGE] + b"".join(struct.pack("<QIIQ", *d, 0) for d in descriptors)
    data = data.ljust(4 * PAGE + 1, b"\0")
    dump = opened(data)
    assert all(dump.read(page * PAGE, 1) == b"" for page in range(3))


@given(st.binary(max_size=200))
def test_random_pieces_do_no_harm(tail: bytes) -> None:
    data = flat([(0, b"abc")], end=False) + tail
    whole = Flattened(source(data))
    assert whole.read_at(1, 2) == b"bc" or tail
    assert len(whole.read_at(0, 1 << 40)) <= len(data)


def test_what_qemu_writes_gives_the_same_answer_as_the_raw_image(lab: Any, tmp_path: Path) -> None:
    """The real thing: QEMU's own `dump-guest-memory -z` of a sample's memory."""
    sample = lab.sample("6.1 two CPUs")
    with revived(sample, tmp_path) as guest:
        target = {"paging": False, "protocol": "file:dump.kdump", "format": "kdump-zlib"}
        guest.command("dump-guest-memory", target)
    (tmp_path / "ram").unlink()
    assert_same_answer(lab, sample.raw, tmp_path / "dump.kdump")


@pytest.mark.slow
@pytest.mark.parametrize(("option", "flag"), [("-l", LZO), ("-c", 1), ("-z", ZSTD)])
def test_what_makedumpfile_writes_holds_every_byte_of_the_raw_image(
    lab: Any, tmp_path: Path, makedumpfile: list[str], option: str, flag: int
) -> None:
    """Debian's makedumpfile, which knows no snappy, from an ELF core of a real guest's memory."""
    sample = lab.sample("6.1 two CPUs")
    elf, dump = tmp_path / "core", tmp_path / "dump"
    elf.write_bytes(core_with_vmcoreinfo(sample.raw.read_bytes()))
    subprocess.run(
        [*makedumpfile, option, "-d", "0", elf, dump], check=True, capture_output=True, timeout=120
    )
    elf.unlink()
    with open_image(sample.raw) as raw, open_image(dump) as packed_image:
        pages = range(0, raw.end_paddr, PAGE)
        assert [
            paddr for paddr in pages if raw.read(paddr, PAGE) != packed_image.read_available(paddr, PAGE)
        ] == []
    data = dump.read_bytes()[: 16 * MIB]
    _, _, _, status, _, sub_blocks, bitmap_blocks, max_page, _ = struct.unpack_from("<8si390s22xIiiIII", data)
    table = (1 + sub_blocks + bitmap_blocks) * PAGE
    flags = [struct.unpack_from("<QII", data, table + 24 * page)[2] for page in range(max_page)]
    assert status & flag
    assert sum(each == flag for each in flags) > max_page // 2
    if option != "-c":
        assert_same_answer(lab, sample.raw, dump)


@pytest.fixture(scope="module")
def makedumpfile(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command, from Debian's packages, unpacked and not installed."""
    from samples import apt

    root = tmp_path_factory.mktemp("makedumpfile")
    suites = ("trixie",)
    for package in apt.download(apt.with_libraries(["makedumpfile"], suites), suites):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    libraries = ":".join(str(root / folder / "x86_64-linux-gnu") for folder in ("lib", "usr/lib"))
    return [
        str(next(root.rglob("ld-linux-x86-64.so.2"))),
        "--library-path",
        libraries,
        str(root / "usr/bin/makedumpfile"),
    ]


def core_with_vmcoreinfo(memory: bytes) -> bytes:
    """An ELF core of a machine's memory with the note that makedumpfile asks for, which the kernel keeps in
    it."""
    at = memory.find(b"VMCOREINFO\0\0OSRELEASE=")
    (size,) = struct.unpack_from("<I", memory, at - 8)
    note = memory[at - 12 : at + 12 + size]
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )
    head += struct.pack("<IIQQQQQQ", 4, 0, PAGE, 0, 0, len(note), len(note), 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, 3 * PAGE, 0xFFFF888000000000, 0, len(memory), len(memory), 0)
    return (head.ljust(PAGE, b"\0") + note).ljust(3 * PAGE, b"\0") + memory


def assert_same_answer(lab: Any, *images: Path) -> None:
    """`ps` says the same of both images."""
    hb = [sys.executable, "-m", "hybridbridge_vol", "run", "--store", lab.store.root]
    answers = [
        subprocess.run([*hb, path, "ps"], capture_output=True, timeout=120, check=True).stdout
        for path in images
    ]
    assert answers[0].count(b"\n") > 20
    assert answers[0] == answers[1]
