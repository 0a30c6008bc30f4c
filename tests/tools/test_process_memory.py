"""The memory of processes with huge, shared, merged, locked, bound and swapped pages, held against what the
guest itself read of it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import GENERATIONS, trust
from live_files import LiveFiles
from live_kernel import LiveKernel
from memory_kinds import differences, dumped
from sessions import session_with

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Raw
from hybridbridge_vol.trust.store import Store
from samples.make import Sample, Spec, make_sample, sha256_of
from samples.truth import Truth

Lab = Any
PAGE_SIZE, TABLE_SIZE = 4096, 2 << 20
MIB = 1 << 20
GUESTS = {
    "5.10": Spec("5.10-cloud", seed=21, light=True, memory=True, nodes=2, ram=768 * MIB, cpus=2),
    "6.1": Spec("6.1-cloud", seed=21, light=True, memory=True, nodes=2, ram=768 * MIB, cpus=2),
    "6.12": Spec("6.12-cloud", seed=21, light=True, memory=True, nodes=2, ram=768 * MIB, cpus=2),
    "7.x": Spec("7-cloud", seed=21, light=True, memory=True, nodes=2, ram=768 * MIB, cpus=2),
    "6.1 of 2 GiB": Spec("6.1-cloud", seed=31, light=True, memory=True, nodes=2, ram=2048 * MIB, cpus=2),
}
"""Guests with two nodes of memory, two swap devices (one that compresses), and a process with every kind; one
of the size of a small server."""


def assert_files_are_equal(session: Session, truth: Truth) -> None:
    for pid in truth.memory:
        for name in ("maps", "smaps", "smaps_rollup", "numa_maps"):
            path = f"/proc/{pid}/{name}"
            assert truth.moved(path) or session.files.read(path) == truth.file(path), path


def assert_cores_hold_what_the_guest_read(session: Session, truth: Truth) -> None:
    for pid, ranges in truth.memory.items():
        assert ranges
        core, missing = dumped(session, pid)
        assert list(differences(core, ranges)) == []
        swapped = any(item.crc is None for item in ranges)
        assert all(line.endswith("swapped out") for line in missing)
        assert bool(missing) == swapped


def kib(truth: Truth, pid: int, key: str) -> int:
    """A sum of smaps."""
    return kib_in(truth.file(f"/proc/{pid}/smaps"), key)


def kib_in(text: bytes, key: str) -> int:
    return sum(int(found) for found in re.findall(rb"(?m)^%s:\s+(\d+) kB" % key.encode(), text))


@pytest.mark.parametrize(
    ("generation", "mode"),
    [*((name, Mode.AUTO) for name in GENERATIONS), ("6.12", Mode.SLOW)],
)
def test_a_process_with_huge_pages_is_read_and_dumped(lab: Lab, generation: str, mode: Mode) -> None:
    truth = lab.sample(generation).truth
    (pid,) = truth.memory
    assert kib(truth, pid, "AnonHugePages") >= 4096
    with session_with(lab, generation, mode) as session:
        assert_files_are_equal(session, truth)
        assert_cores_hold_what_the_guest_read(session, truth)
        assert session.rolled_back == 0
        assert session.statistics.unattributed == {}
        assert session.statistics.unknown_instructions == {}
        assert session.bridge.faults.warned == {}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store to which kernels are added when they are needed."""
    return Store(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=GUESTS, scope="module")
def guest(request: pytest.FixtureRequest, store: Store) -> Iterator[Sample]:
    """An image of each of `GUESTS`, whose kernel is trusted; it does not change by a byte."""
    sample = make_sample(GUESTS[request.param])
    trust(store, sample)
    before = sha256_of(sample.raw)
    yield sample
    assert sha256_of(sample.raw) == before


@pytest.mark.slow
def test_memory_of_every_kind_is_read_and_dumped(guest: Sample, store: Store) -> None:
    truth = guest.truth
    pid = max(truth.memory, key=lambda pid: len(truth.memory[pid]))
    for key in ("AnonHugePages", "ShmemPmdMapped", "Shared_Hugetlb", "Swap"):
        assert kib(truth, pid, key), key
    status = truth.file(f"/proc/{pid}/status")  # smaps does not count what NUMA balancing watches
    assert kib_in(status, "VmLck") == 8192
    assert all(line.split()[3] != "0" for line in truth.file("/proc/swaps").decode().splitlines()[1:])
    assert all(
        word in truth.file(f"/proc/{pid}/numa_maps") for word in (b"bind:1", b"interleave:0-1", b"N1=")
    )
    with open_session(guest.raw, store.root) as session:
        assert_files_are_equal(session, truth)
        assert_cores_hold_what_the_guest_read(session, truth)
        assert session.rolled_back == 0
        assert session.bridge.faults.warned == {}


# --- one failure spoils nothing else ------------------------------------------------------------------------


class FailingFiles(LiveFiles):
    """This machine's files; calls about some bytes of one of them are rolled back."""

    def __init__(self, path: str, broken: range) -> None:
        super().__init__({})
        self.path, self.broken = path, broken

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        if path == self.path and offset < self.broken.stop and offset + size > self.broken.start:
            raise CallRolledBack("pread64", "page fault")
        return super().read_at(path, offset, size)


class FailingKernel(LiveKernel):
    """This machine with `FailingFiles`."""

    def __init__(self, path: str, broken: range) -> None:
        super().__init__()
        self.files = FailingFiles(path, broken)


CHILD = """
import ctypes, mmap, os, sys
kept = [mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2)]
for memory in kept:
    memory.madvise(15)  # MADV_NOHUGEPAGE
    memory.write(os.urandom(8 << 20))
    print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
sys.stdin.read()
"""
CHILD_SIZE = 8 << 20


@pytest.fixture
def child() -> Iterator[tuple[int, list[int]]]:
    """A process with two stretches of 8 MiB of random bytes, and where they are."""
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.pid, [int(process.stdout.readline()) for _ in range(2)]
        process.communicate("")


def memory_of(pid: int, start: int, end: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        return os.pread(file.fileno(), end - start, start)


def test_a_page_that_cannot_be_read_spoils_no_other(child: tuple[int, list[int]]) -> None:
    pid, (start, _other) = child
    page = start + 100 * PAGE_SIZE
    core, missing = dumped(FailingKernel(f"/proc/{pid}/mem", range(page, page + 1)), pid)
    assert core.read(start, page) == memory_of(pid, start, page)
    assert core.read(page, page + PAGE_SIZE) == bytes(PAGE_SIZE)
    assert core.read(page + PAGE_SIZE, start + CHILD_SIZE) == memory_of(
        pid, page + PAGE_SIZE, start + CHILD_SIZE
    )
    (line,) = missing
    assert f"4 KiB at {page:#x}-{page + PAGE_SIZE:#x}: /proc/{pid}/mem: page fault" in line


def test_a_mapping_that_is_given_up_spoils_no_other(child: tuple[int, list[int]]) -> None:
    pid, (start, other) = child
    core, missing = dumped(FailingKernel(f"/proc/{pid}/mem", range(start, start + CHILD_SIZE)), pid)
    assert core.read(other, other + CHILD_SIZE) == memory_of(pid, other, other + CHILD_SIZE)
    assert any("given up" in line and f"-{start + CHILD_SIZE:#x}" in line for line in missing)
    assert sum(int(re.findall(r"(\d+) KiB", line)[0]) for line in missing) == CHILD_SIZE // 1024


def test_where_pagemap_cannot_be_read_one_table_is_lost(child: tuple[int, list[int]]) -> None:
    pid, (start, _other) = child
    page = start + 1024 * PAGE_SIZE
    entry = page // PAGE_SIZE * 8
    core, missing = dumped(FailingKernel(f"/proc/{pid}/pagemap", range(entry, entry + 1)), pid)
    table = page & -TABLE_SIZE
    for first, last in ((start, table), (table + TABLE_SIZE, start + CHILD_SIZE)):
        assert core.read(first, last) == memory_of(pid, first, last)
    assert core.read(table, table + TABLE_SIZE) is None
    (line,) = missing
    assert f"2048 KiB at {table:#x}-{table + TABLE_SIZE:#x}: /proc/{pid}/pagemap: page fault" in line


def table_of(image: bytes, frames: list[int]) -> int:
    """Where in an image the page table is that maps these pages one after the other."""

    def any_flags(frame: int) -> bytes:
        """An entry: flags are in its lowest 12 and its highest bits."""
        low, *rest = struct.pack("<Q", frame << 12)[1:6]
        first, last = re.escape(bytes((low,))), re.escape(bytes((low | 15,)))
        return b"[\\x00-\\xff][" + first + b"-" + last + b"]" + re.escape(bytes(rest)) + b"[\\x00-\\xff]{2}"

    pattern = b"".join(map(any_flags, frames))
    (found,) = (match.start() for match in re.finditer(pattern, image, re.DOTALL) if match.start() % 8 == 0)
    return found & -PAGE_SIZE


def test_a_page_table_that_the_image_lacks_loses_only_what_it_maps(lab: Lab, tmp_path: Path) -> None:
    sample, session = lab.sample("6.12"), lab.session("6.12")
    (pid,) = sample.truth.memory
    maps = sample.truth.file(f"/proc/{pid}/maps").decode().splitlines()
    # what guest/memory.h made read-only in the midst of a huge page: small pages are before and behind it
    split = next(int(line.split("-")[0], 16) for line in maps if "r--p 00000000 00:00 0" in line)
    first, count = split - 16 * PAGE_SIZE, 16
    data = session.files.read_at(f"/proc/{pid}/pagemap", first // PAGE_SIZE * 8, count * 8)
    words = struct.unpack(f"<{count}Q", data)
    hole = table_of(sample.raw.read_bytes(), [word & (1 << 55) - 1 for word in words])
    path = tmp_path / "hole.lime"
    with open(sample.raw, "rb") as raw, open(path, "wb") as lime:
        for start, end in ((0, hole), (hole + PAGE_SIZE, sample.raw.stat().st_size)):
            lime.write(struct.pack("<IIQQQ", 0x4C694D45, 1, start, end - 1, 0))
            raw.seek(start)
            lime.write(raw.read(end - start))
    with open_session(path, lab.store.root) as holed:
        core, missing = dumped(holed, pid)
    path.unlink()
    table = split & -TABLE_SIZE
    ranges = sample.truth.memory[pid]
    outside = [item for item in ranges if not table <= item.start_vaddr < table + TABLE_SIZE]
    assert len(outside) < len(ranges)
    assert list(differences(core, outside)) == []
    assert core.read(first, split) is None
    named = [
        (int(start, 16), int(end, 16)) for start, end in re.findall(r"0x(\w+)-0x(\w+)", " ".join(missing))
    ]
    assert named and all(table <= start < end <= table + TABLE_SIZE for start, end in named)
    assert all("pagemap: not in the image" in line for line in missing), missing


def test_maps_names_a_mapping_whose_sizes_cannot_be_read(child: tuple[int, list[int]]) -> None:
    pid, (start, _other) = child
    kernel = LiveKernel({f"/proc/{pid}/smaps": CallRolledBack("read", "page fault")})
    tool = tools.load("maps")
    options = tool.defaults() | {"pid": (pid,), "smaps": True}
    names = [column.name for column in tool.columns_for(options)]
    rows = [dict(zip(names, row.cells, strict=True)) for row in tool.rows(kernel, options)]
    row = next(row for row in rows if row["START"] <= start < row["END"])
    assert isinstance(row["RSS"], Unavailable) and "page fault" in row["RSS"].reason


# --- a part of a file ---------------------------------------------------------------------------------------


def cat(session: Any, path: str, offset: int | None, length: int | None) -> tuple[bytes, list[str]]:
    """A part of a file, and what `cat` says is missing in it."""
    tool = tools.load("cat")
    assert isinstance(tool, Raw)
    pieces = list(tool.raw(session, {"path": (path,), "offset": offset, "length": length}))
    data = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return data, [piece.reason for piece in pieces if isinstance(piece, Unavailable)]


def test_cat_reads_parts_of_windows_on_memory(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    ((pid, ranges),) = truth.memory.items()
    for start, end, crc, _errno in [item for item in ranges if item.crc is not None][::7]:
        data, missing = cat(session, f"/proc/{pid}/mem", start, end - start)
        assert (zlib.crc32(data), missing) == (crc, [])
        first, count = start // PAGE_SIZE, (end - start) // PAGE_SIZE
        entries, missing = cat(session, f"/proc/{pid}/pagemap", first * 8, count * 8)
        assert missing == []
        assert all(word >> 63 for (word,) in struct.iter_unpack("<Q", entries))


def test_cat_names_the_pages_of_a_part_that_cannot_be_read(lab: Lab) -> None:
    truth, session = lab.sample("6.12").truth, lab.session("6.12")
    ((pid, ranges),) = truth.memory.items()
    text = ranges[0]
    data, missing = cat(session, f"/proc/{pid}/mem", text.end_vaddr - 10, 10 + 2 * PAGE_SIZE)
    assert len(data) == 10
    where = f"bytes {text.end_vaddr:,} to {text.end_vaddr + 2 * PAGE_SIZE - 1:,}"
    assert missing == [f"/proc/{pid}/mem: {where}: Input/output error"]


def test_cat_reads_parts_of_files_that_end(lab: Lab) -> None:
    truth, session = lab.sample("6.12").truth, lab.session("6.12")
    status = truth.file("/proc/1/status")
    assert cat(session, "/proc/1/status", 6, 4) == (status[6:10], [])
    assert cat(session, "/proc/1/maps", 100, None) == (truth.file("/proc/1/maps")[100:], [])
    whole, _missing = cat(session, "/etc/passwd", None, None)
    assert len(whole) > 100
    assert cat(session, "/etc/passwd", None, 40) == (whole[:40], [])
    assert cat(session, "/etc/passwd", 50, 40) == (whole[50:90], [])
    assert cat(session, "/etc/passwd", 90, None) == (whole[90:], [])
    assert cat(session, "/etc/passwd", len(whole) + 5, 10) == (b"", [])
    _data, (reason,) = cat(session, "/etc/passwd", -1, 10)
    assert "not negative" in reason
