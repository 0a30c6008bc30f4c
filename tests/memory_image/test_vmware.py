"""VMware's memory: a .vmem with its .vmss or .vmsn, one that holds the memory, and a .vmem alone."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_files import left_open, open_files
from sources import source
from vmware_writer import PAGE, aligned, block, boot_params, regions, state, tag

from hybridbridge_vol.errors import AttachError, ImageError
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.memory_image.e820 import e820_entries, low_memory_size
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.runs import Run, RunList
from hybridbridge_vol.memory_image.vmware_state import Region, State, parse_vmware_state

MIB, GIB = 1 << 20, 1 << 30
TWO = [(0, 4 * MIB, 0), (4 * GIB, 2 * MIB, 4 * MIB)]


def parsed(data: bytes) -> State:
    return parse_vmware_state(source(data, name="vm.vmss"))


def vmem(path: Path, size: int = 6 * MIB) -> Path:
    """Memory whose pages begin with their offset in the file."""
    path.write_bytes(b"".join(struct.pack("<Q", at).ljust(PAGE, b"\xee") for at in range(0, size, PAGE)))
    return path


def test_regions_say_where_the_file_s_memory_belongs(tmp_path: Path) -> None:
    path = vmem(tmp_path / "vm.vmem")
    (tmp_path / "vm.vmss").write_bytes(state(regions(TWO)))
    with open_image(path) as image:
        assert image.format_name == "VMware"
        assert image.runs == (Run(0, 4 * MIB, 0), Run(4 * GIB, 2 * MIB, 4 * MIB))
        assert image.mappable
        assert image.read(4 * GIB + PAGE, 8) == struct.pack("<Q", 4 * MIB + PAGE)
        assert image.read_available(4 * MIB, 1) is None


@pytest.mark.parametrize("given", ["vm.vmss", "vm.vmsn", "vm.VMSN"])
def test_the_state_may_be_given_in_place_of_its_memory(tmp_path: Path, given: str) -> None:
    path = vmem(tmp_path / "vm.vmem")
    (tmp_path / given).write_bytes(state(regions(TWO)))
    with open_image(tmp_path / given) as image:
        assert image.path == path
        assert image.file_size == 6 * MIB
        assert image.runs == (Run(0, 4 * MIB, 0), Run(4 * GIB, 2 * MIB, 4 * MIB))
        assert not os.get_inheritable(image.fileno())


@pytest.mark.parametrize("alignment", [PAGE, 65536, 1])
def test_a_state_may_hold_the_memory_itself(tmp_path: Path, alignment: int) -> None:
    memory = vmem(tmp_path / "memory").read_bytes()
    path = tmp_path / "vm.vmss"
    path.write_bytes(aligned(regions(TWO), memory, alignment) + bytes(100))
    with open_image(path) as image:
        assert image.mappable == (alignment >= PAGE)
        assert image.read(4 * GIB + PAGE, 8) == struct.pack("<Q", 4 * MIB + PAGE)
        assert image.read(0, PAGE) == memory[:PAGE]
        assert image.missing == ()


def test_without_regions_memory_has_no_hole(tmp_path: Path) -> None:
    memory = vmem(tmp_path / "vm.vmem").read_bytes()
    (tmp_path / "vm.vmsn").write_bytes(state(tag(b"regionsCount")))
    (tmp_path / "whole.vmsn").write_bytes(aligned(tag(b"regionsCount"), memory))
    for name in ("vm.vmem", "vm.vmsn", "whole.vmsn"):
        with open_image(tmp_path / name) as image:
            assert [(run.paddr, run.size) for run in image.runs] == [(0, 6 * MIB)]
            assert image.read(5 * MIB, 8) == struct.pack("<Q", 5 * MIB)


def test_a_truncated_vmem_says_what_is_missing(tmp_path: Path) -> None:
    path = vmem(tmp_path / "vm.vmem", 5 * MIB)
    (tmp_path / "vm.vmss").write_bytes(state(regions(TWO)))
    with open_image(path) as image:
        assert image.missing == ((4 * GIB + MIB, MIB),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (state(regions(TWO)), "put vm.vmem beside it"),
        (state(block(b"Memory", (0, 0), b"", size=62)), "compressed by VMware"),
        (state(regions(TWO), b"\xd0\xbe\xd2\xbe"), "without 64-bit guests"),
        (state(tag(b"regionsCount", (), 2)), "regions makes no sense"),
        (state(tag(b"regionsCount", (), 1 << 31)), "regions makes no sense"),
        (
            state(regions([(1 << 43, PAGE, 0), (0, PAGE << 31, PAGE << 31)])),
            "put vm.vmem|no sense|impossible",
        ),
        (state(b"").replace(b"memory", b"mammut"), "no group 'memory'"),
        (aligned(regions(TWO), bytes(MIB)), "truncated"),
    ],
)
def test_a_state_that_leads_nowhere_says_why_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "vm.vmss"
    path.write_bytes(content)
    before = open_files()
    with pytest.raises(ImageError, match=words) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_open(before) == Counter()


def test_a_vmem_that_is_too_small_closes_what_was_opened(tmp_path: Path) -> None:
    (tmp_path / "vm.vmem").write_bytes(bytes(PAGE))
    (tmp_path / "vm.vmss").write_bytes(state(regions(TWO)))
    before = open_files()
    for name in ("vm.vmem", "vm.vmss"):
        with pytest.raises(ImageError, match="truncated"):
            open_image(tmp_path / name)
    assert left_open(before) == Counter()


# --- a .vmem alone ------------------------------------------------------------------------------------------

E820 = [
    (0, 0x9F000, 1),
    (0x9F000, 0x1000, 2),
    (MIB, 3 * GIB - 2 * MIB, 1),
    (3 * GIB - MIB, MIB, 3),
    (4 * GIB, GIB, 1),
]


def lone_vmem(path: Path, size: int, entries: list[tuple[int, int, int]] | None, at: int) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(size)
        if entries is not None:
            stream.seek(at)
            stream.write(boot_params(entries))
    return path


def test_a_small_vmem_alone_is_contiguous(tmp_path: Path) -> None:
    with open_image(lone_vmem(tmp_path / "vm.vmem", 3 * GIB, None, 0)) as image:
        assert image.runs == (Run(0, 3 * GIB, 0),)


@pytest.mark.parametrize("at", [5 * MIB + 48, (16 << 20) - 0x204, 3 * GIB + 5 * MIB])
def test_the_guests_own_memory_map_says_where_a_lone_vmem_has_its_hole(tmp_path: Path, at: int) -> None:
    with open_image(lone_vmem(tmp_path / "vm.vmem", 4 * GIB, E820, at)) as image:
        assert image.runs == (Run(0, 3 * GIB, 0), Run(4 * GIB, GIB, 3 * GIB))
        assert "memory map" in image.format_name


@pytest.mark.parametrize("size", [4 * GIB - PAGE, 4 * GIB + PAGE, 5 * GIB])
def test_a_memory_map_that_does_not_fit_the_file_is_not_believed(tmp_path: Path, size: int) -> None:
    with pytest.raises(ImageError, match=r"vm\.vmss or vm\.vmsn.*not beside it") as caught:
        open_image(lone_vmem(tmp_path / "vm.vmem", size, E820, 5 * MIB))
    assert "\n" not in str(caught.value)


def test_a_file_full_of_signatures_does_not_keep_us_busy() -> None:
    reads = []

    def read_at(offset: int, size: int) -> bytes:
        reads.append(offset)
        return (b"HdrS" * (size // 4 + 1))[:size]

    assert low_memory_size(Source("vm.vmem", 4 * GIB, read_at), [(0, 4 * GIB)]) is None
    assert len(reads) < 20_000


def test_a_damaged_state_beside_a_large_vmem_is_named(tmp_path: Path) -> None:
    path = lone_vmem(tmp_path / "vm.vmem", 4 * GIB, E820, 5 * MIB)
    (tmp_path / "vm.vmss").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"vm\.vmss: not a VMware.*vm\.vmem cannot be read"):
        open_image(path)


# --- hostile states -----------------------------------------------------------------------------------------


def test_tags_are_read_as_they_are_written() -> None:
    memory = tag(b"odd", (1, 2, 3), 7, 5) + block(b"other", (), b"x" * 70, 3) + regions(TWO)
    assert parsed(state(memory)) == State((Region(0, 4 * MIB, 0), Region(4 * GIB, 2 * MIB, 4 * MIB)), None)


def assert_harmless(data: bytes) -> None:
    try:
        found = parsed(data)
    except ImageError as error:
        assert "\n" not in str(error)
        return
    assert len(found.regions) <= 4096
    assert all(0 <= region.paddr < 1 << 46 and region.size > 0 for region in found.regions)


@given(st.binary(max_size=300), st.integers(0, 700), st.integers(0, 700))
def test_damaged_states_do_no_harm(junk: bytes, at: int, size: int) -> None:
    data = bytearray(state(regions(TWO) + block(b"Memory", (0, 0), bytes(64))))
    data[at : at + len(junk)] = junk
    assert_harmless(bytes(data[: max(size, 12)]))


@given(st.binary(max_size=400))
def test_random_tags_do_no_harm(tags: bytes) -> None:
    assert_harmless(state(tags))


@given(st.lists(st.tuples(*[st.integers(0, (1 << 32) - 1)] * 3), max_size=12))
def test_hostile_regions_give_disjoint_runs_inside_the_file(table: list[tuple[int, int, int]]) -> None:
    try:
        found = parsed(
            state(regions([(paddr * PAGE, size * PAGE, offset * PAGE) for paddr, size, offset in table]))
        )
    except ImageError:
        return
    collected = RunList(1 << 30)
    for region in found.regions:
        collected.add(region.paddr, region.size, region.offset)
    end = 0
    for run in collected.runs():
        assert run.paddr >= end
        assert 0 <= run.offset < run.offset + run.size <= 1 << 30
        end = run.paddr + run.size


def test_a_million_tags_end_soon() -> None:
    assert_harmless(state(tag(b"a") * 300_000))


@given(st.binary(max_size=PAGE), st.integers(0, 255))
def test_random_memory_maps_are_ascending_or_none(page: bytes, count: int) -> None:
    data = bytearray(page.ljust(PAGE, b"\0"))
    data[0x1E8], data[0x202:0x206] = count, b"HdrS"
    entries = e820_entries(bytes(data))
    assert entries is None or all(a[0] + a[1] <= b[0] for a, b in pairwise(entries))
    size = low_memory_size(source(bytes(data)), [(0, PAGE)])
    assert size is None or 0 < size <= PAGE


# --- a real guest -------------------------------------------------------------------------------------------


def without_hole(raw: Path, target: Path) -> list[tuple[int, int, int]]:
    """Memory of a raw image beyond 4 GiB moved down to 3 GiB, sparse; the regions."""
    size = raw.stat().st_size
    with open(raw, "rb") as source, open(target, "wb") as out:
        out.truncate(size - GIB)
        for start, end, shift in ((0, 3 * GIB, 0), (4 * GIB, size, GIB)):
            copy_sparse(source.fileno(), out.fileno(), start, end, shift)
    return [(0, 3 * GIB, 0), (4 * GIB, size - 4 * GIB, 3 * GIB)]


def copy_sparse(source: int, out: int, start: int, end: int, shift: int) -> None:
    """What lies between two offsets, but holes, copied to `shift` bytes before."""
    while start < end:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError:
            return
        until = min(end, os.lseek(source, start, os.SEEK_HOLE))
        while start < until:
            start += os.pwrite(out, os.pread(source, min(16 * MIB, until - start), start), start - shift)


def volatility_reads(path: Path) -> Any:
    """Volatility's own layer over the pair."""
    from volatility3.framework import contexts
    from volatility3.framework.layers import physical, vmware

    context = contexts.Context()
    context.config["test.base.location"] = path.resolve().as_uri()
    base = physical.FileLayer(context, "test.base", "base")
    context.add_layer(base)
    layer = vmware.VmwareStacker.stack(context, "base")
    assert layer is not None
    context.add_layer(layer)
    return layer


@pytest.mark.slow
def test_a_guest_beyond_4_gib_gives_the_same_answers(lab: Any, tmp_path: Path) -> None:
    from generations import trust

    from samples.make import Spec, make_sample

    sample = make_sample(Spec("6.12-cloud", seed=17, ram=4608 * MIB, light=True, append="pti=on"))
    trust(lab.store, sample)
    pair = tmp_path / "pair"
    pair.mkdir()
    table = without_hole(sample.raw, pair / "vm.vmem")
    (pair / "vm.vmss").write_bytes(state(regions(table)))
    lone = tmp_path / "lone.vmem"
    os.link(pair / "vm.vmem", lone)
    assert_same_answer(lab, sample.raw, pair / "vm.vmem", pair / "vm.vmss", lone)
    raw = tmp_path / "memory file"
    os.link(lone, raw)
    with pytest.raises(AttachError, match=r"right behind.*\.vmem"):
        open_session(raw, lab.store.root)
    (tmp_path / "memory file.vmem").symlink_to(raw.name)
    assert_same_answer(lab, sample.raw, tmp_path / "memory file.vmem")

    layer = volatility_reads(pair / "vm.vmem")
    with open_image(pair / "vm.vmem") as image:
        assert [(s[0], s[2], s[1]) for s in layer._segments] == [
            (run.paddr, run.size, run.offset) for run in image.runs
        ]
        for run in image.runs:
            for paddr in range(run.paddr, run.paddr + run.size, 64 * MIB):
                assert image.read(paddr, PAGE) == layer.read(paddr, PAGE)


def test_volatility_reads_the_same_from_a_pair(tmp_path: Path) -> None:
    path = vmem(tmp_path / "vm.vmem")
    (tmp_path / "vm.vmss").write_bytes(state(regions(TWO)))
    layer = volatility_reads(path)
    with open_image(path) as image:
        assert [(s[0], s[2], s[1]) for s in layer._segments] == [
            (run.paddr, run.size, run.offset) for run in image.runs
        ]
        for paddr in (0, MIB, 4 * MIB - PAGE, 4 * GIB, 4 * GIB + MIB):
            assert image.read(paddr, PAGE) == layer.read(paddr, PAGE)


def assert_same_answer(lab: Any, *images: Path) -> None:
    """`ps` says the same of all images."""
    hb = [sys.executable, "-m", "hybridbridge_vol", "run", "--store", lab.store.root]
    answers = [
        subprocess.run([*hb, path, "ps"], capture_output=True, timeout=120, check=True).stdout
        for path in images
    ]
    assert answers[0].count(b"\n") > 20
    assert len(set(answers)) == 1
