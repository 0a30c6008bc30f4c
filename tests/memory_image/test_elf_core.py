"""ELF cores: what the file has, what its writer means by what it has not, and what is not such a core."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from elf_writer import Load, elf_core, header, headers_size, makedumpfiles, note, xen_core
from hypothesis import given
from hypothesis import strategies as st
from kdump_writer import flat
from sources import source
from test_runs import assert_disjoint_and_inside

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.elf_core import parse_elf_core
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import MAX_RUNS
from hybridbridge_vol.memory_image.runs import Run

MIB, PAGE = 1 << 20, 4096
ABSENT = (1 << 64) - 1
QEMU = note(b"CORE", bytes(336), 1) + note(b"QEMU", bytes(440))


def test_segments_with_holes_between_them(tmp_path: Path) -> None:
    path = tmp_path / "dump.elf"
    path.write_bytes(
        elf_core([(0, 3 * MIB, PAGE), (4 << 30, MIB, PAGE + 3 * MIB)]).ljust(PAGE, b"\0")
        + bytes(3 * MIB)
        + b"x" * MIB
    )
    with open_image(path) as image:
        assert image.mappable
        assert image.read((4 << 30) + 5, 3) == b"xxx"
        assert image.run_at(3 * MIB) is None


def test_overlapping_segments_are_cut_to_what_is_new() -> None:
    data = elf_core([(0x1000, 0x2000, 0x1000), (0, 0x5000, 0x4000)]).ljust(0x9000, b"\0")
    contents = parse_elf_core(source(data))
    assert contents.runs == [Run(0, 0x1000, 0x4000), Run(0x1000, 0x2000, 0x1000), Run(0x3000, 0x2000, 0x7000)]
    assert contents.missing == []


def test_a_truncated_core_says_what_is_missing() -> None:
    data = elf_core([(0, 8 * PAGE, PAGE)]).ljust(6 * PAGE, b"\0")
    assert parse_elf_core(source(data)).missing == [(5 * PAGE, 3 * PAGE)]


# --- more segments than fit 16 bits, or can be mapped ---


@pytest.mark.parametrize("count", [MAX_RUNS + 1, 0xFFFE, 0xFFFF, 0x11000])
def test_thousands_of_segments_are_read(tmp_path: Path, count: int) -> None:
    start, size = headers_size(count), 512
    path = tmp_path / "dump.elf"
    path.write_bytes(
        elf_core([(2 * PAGE * index, size, start + size * index) for index in range(count)])
        + b"".join(struct.pack("<Q", index) * (size // 8) for index in range(count))
    )
    with open_image(path) as image:
        assert not image.mappable
        assert len(image.runs) <= MAX_RUNS
        assert image.memory_size == size * count
        assert image.read(2 * PAGE * (count - 1) + 8, 8) == struct.pack("<Q", count - 1)
        assert image.read_available(PAGE, 1) is None
        assert image.offset_of(2 * PAGE * 5 + 3) == start + size * 5 + 3


# --- fewer bytes in the file than in memory ---


def test_what_virtualbox_has_no_bytes_for_is_a_device_and_not_missing(tmp_path: Path) -> None:
    """VBoxManage debugvm dumpvmcore: 640 KiB, the graphics card's window, the rest. Names of notes without a
    zero, both parts padded to eight bytes."""
    descriptor = struct.pack("<IIIIII", 0xC01AC0DE, 0x00010000, 24, 0x00070000, 1, 1)
    notes = b"".join(
        struct.pack("<III", len(name), len(content), kind) + name.ljust(8, b"\0") + content
        for name, kind, content in ((b"VBCORE", 0xB00, descriptor), (b"VBCPU", 0xB01, bytes(64)))
    )
    low, window, rest = 0xA0000, 0x20000, 4 * MIB
    start = headers_size(3, notes)
    loads = [
        Load(0, low, start),
        Load(low, 0, start + low, window),
        Load(low + window, rest, start + low),
    ]
    path = tmp_path / "vbox.elf"
    path.write_bytes(elf_core(loads, notes) + b"l" * low + b"r" * rest)
    with open_image(path) as image:
        assert image.missing == ()
        assert image.read(low - 1, 1) + image.read(low + window, 1) == b"lr"
        assert image.read_available(low, 1) is None
        assert image.why_absent(low + 5) == "no memory, but registers or memory of a device"


def test_what_qemu_leaves_out_is_absent(tmp_path: Path) -> None:
    start = headers_size(2, QEMU)
    path = tmp_path / "dump.elf"
    loads = [Load(0, 3 * MIB, start, 8 * MIB), Load(0xFEE00000, 0, ABSENT, PAGE)]
    path.write_bytes(elf_core(loads, QEMU) + bytes(3 * MIB))
    with open_image(path) as image:
        assert image.missing == ((3 * MIB, 5 * MIB), (0xFEE00000, PAGE))
        assert image.read_available(3 * MIB, 1) is None
        assert image.memory_size == 3 * MIB


def test_qemus_blocks_hold_what_lies_between_two_segments_of_one_block() -> None:
    """QEMU cut the direct map's segment at the end of the first block; user pages lead into the second."""
    blocks = bytes(PAGE) + bytes(range(256)) * 16 * 7  # [0, 1 page) and [16 pages, 23 pages)
    start = headers_size(3, QEMU)
    loads = [
        Load(0, PAGE, start, 32 * PAGE),
        Load(17 * PAGE, PAGE, start + 2 * PAGE),
        Load(21 * PAGE, PAGE, start + 6 * PAGE),
    ]
    contents = parse_elf_core(source(elf_core(loads, QEMU) + blocks))
    assert contents.runs == [Run(0, PAGE, start), Run(17 * PAGE, 5 * PAGE, start + 2 * PAGE)]
    assert contents.missing == [(PAGE, 16 * PAGE), (22 * PAGE, 10 * PAGE)]


def test_what_an_unknown_writer_leaves_out_is_absent_not_zeros() -> None:
    data = elf_core([Load(0, PAGE, PAGE, 3 * PAGE)]).ljust(2 * PAGE, b"\0")
    contents = parse_elf_core(source(data))
    assert contents.runs == [Run(0, PAGE, PAGE)]
    assert contents.missing == [(PAGE, 2 * PAGE)]


def test_why_memory_is_absent_is_said_by_the_program_that_wrote_the_file(tmp_path: Path) -> None:
    """QEMU's, an unknown writer's, and what was cut off."""
    start = headers_size(1, QEMU)
    cut = elf_core([Load(0, 3 * MIB, start, 8 * MIB)], QEMU) + bytes(3 * MIB)
    other = elf_core([Load(0, 3 * MIB, PAGE, 8 * MIB)]).ljust(PAGE, b"\0") + bytes(3 * MIB)
    short = elf_core([Load(0, 8 * MIB, PAGE)]).ljust(PAGE, b"\0") + bytes(3 * MIB)
    for data, words in ((cut, "left out by QEMU"), (other, "left out by the program"), (short, "truncated")):
        path = tmp_path / "dump.elf"
        path.write_bytes(data)
        with open_image(path) as image:
            assert image.missing == ((3 * MIB, 5 * MIB),)
            assert words in image.why_absent(4 * MIB)
            assert image.why_absent(9 * MIB) == "outside of the image's ranges"
            assert image.ranges == [(0, 3 * MIB)]


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=8), st.binary(max_size=439))
def test_the_page_tables_of_each_cpu_are_in_qemus_notes(roots: list[int], short: bytes) -> None:
    """CR3 lies where QEMUCPUState has it; a note that is too short is passed over."""
    notes = b"".join(note(b"QEMU", bytes(416) + struct.pack("<Q", root) + bytes(16)) for root in roots)
    notes += note(b"QEMU", short[:420]) + note(b"CORE", bytes(440))
    data = elf_core([Load(0, PAGE, headers_size(1, notes))], notes) + bytes(PAGE)
    assert [cpu.cr3 for cpu in parse_elf_core(source(data)).cpus] == roots


# --- flattened ---


def test_a_flattened_core_is_read_like_the_core(tmp_path: Path) -> None:
    data = makedumpfiles([(0, bytes(range(256)) * 4096 * 3, 6 * MIB)])
    (tmp_path / "core").write_bytes(data)
    (tmp_path / "flat").write_bytes(flat([(MIB, data[MIB:]), (0, data[:MIB])]))
    with open_image(tmp_path / "core") as core, open_image(tmp_path / "flat") as flattened:
        assert flattened.format_name == "ELF core (flattened)"
        assert flattened.runs == core.runs
        assert flattened.read(0, 3 * MIB) == core.read(0, 3 * MIB)
        assert flattened.offset_of(0) is None


# --- Xen ---


def test_a_xen_core_has_its_pages_where_its_frame_numbers_say(tmp_path: Path) -> None:
    frames = [*range(512), *range(0x100000, 0x100100), ABSENT, 600]
    pages = b"".join(struct.pack("<Q", frame).ljust(PAGE, b"\0") for frame in frames)
    path = tmp_path / "domain.core"
    path.write_bytes(xen_core(frames, pages))
    with open_image(path) as image:
        assert image.format_name == "Xen core"
        assert image.mappable
        assert image.memory_size == 769 * PAGE
        for frame in (0, 511, 0x100000, 0x1000FF, 600):
            assert image.read(frame * PAGE, 8) == struct.pack("<Q", frame)
        assert image.read_available(512 * PAGE, 1) is None


def test_volatility_reads_the_same_from_a_xen_core(tmp_path: Path) -> None:
    from volatility3.framework import contexts
    from volatility3.framework.layers import physical, xen

    frames = [*range(600), 0x1000, 0x2000]
    path = tmp_path / "domain.core"
    path.write_bytes(xen_core(frames, b"".join(struct.pack("<Q", frame) * 512 for frame in frames)))
    context = contexts.Context()
    context.config["test.base.location"] = path.resolve().as_uri()
    context.add_layer(physical.FileLayer(context, "test.base", "base"))
    layer = xen.XenCoreDumpStacker.stack(context, "base")
    assert layer is not None
    with open_image(path) as image:
        for frame in frames[1:]:  # it takes the number 0 for none
            assert image.read(frame * PAGE, PAGE) == layer.read(frame * PAGE, PAGE)


def test_a_core_of_a_xen_pv_guest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "domain.core"
    path.write_bytes(xen_core([0, 1], bytes(2 * PAGE), b".xen_p2m"))
    with pytest.raises(ImageError, match="Xen PV guest.*crash"):
        open_image(path)


@given(st.binary(max_size=300), st.integers(0, 600))
def test_a_damaged_xen_core_does_no_harm(junk: bytes, at: int) -> None:
    data = bytearray(xen_core([0, 1, 5], bytes(3 * PAGE)))
    data[at : at + len(junk)] = junk
    try:
        assert_disjoint_and_inside(parse_elf_core(source(bytes(data))).runs, len(data))
    except ImageError as error:
        assert "\n" not in str(error)


# --- other ELF files ---


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (elf_core([], kind=2), "program"),
        (header(1, machine=183), "e_machine 183"),
        (b"\x7fELF\x01" + bytes(80), "64-bit"),
        (elf_core([Load(0, PAGE, PAGE, vaddr=0x400000 + PAGE * i) for i in range(3)]), "of a process"),
        (
            elf_core([Load(0, PAGE, PAGE, vaddr=0xFFFF888000000000 + PAGE * i) for i in range(3)]),
            "no physical",
        ),
        (elf_core([Load(ABSENT, PAGE, PAGE, vaddr=0xFFFF888000000000)] * 2), "no physical"),
        (elf_core([]), "damaged ELF core"),
        (elf_core([(0, 0, 0)]), "without memory"),
    ],
)  # fmt: skip
def test_other_elf_files_are_named_in_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data.ljust(4 * MIB, b"\0"))
    with pytest.raises(ImageError, match=words) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", [0, 1 << 62, (1 << 64) - 1])
def test_a_core_whose_headers_lie_nowhere_is_damaged(tmp_path: Path, table: int) -> None:
    data = bytearray(elf_core([(0, 4 * MIB, PAGE)]) + bytes(4 * MIB))
    struct.pack_into("<Q", data, 32, table)
    path = tmp_path / "dump.elf"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="ELF core"):
        open_image(path)


@given(
    st.lists(
        st.tuples(*[st.integers(0, 1 << 47)] * 2, st.integers(0, 1 << 20), st.integers(0, 1 << 47)),
        max_size=12,
    ),
    st.sampled_from([b"", QEMU, note(b"VMCOREINFO", b"x")]),
)
def test_hostile_program_headers_give_disjoint_runs_inside_the_file(
    segments: list[tuple[int, int, int, int]], notes: bytes
) -> None:
    data = elf_core([Load(*segment) for segment in segments], notes)
    try:
        assert_disjoint_and_inside(parse_elf_core(source(data)).runs, len(data))
    except ImageError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damaged_headers_do_no_harm(junk: bytes, at: int) -> None:
    data = bytearray(makedumpfiles([(0, b"a" * PAGE, 3 * PAGE), (4 * PAGE, b"b" * PAGE, PAGE)]))
    data[at : at + len(junk)] = junk
    try:
        assert_disjoint_and_inside(parse_elf_core(source(bytes(data))).runs, len(data))
    except ImageError as error:
        assert "\n" not in str(error)
