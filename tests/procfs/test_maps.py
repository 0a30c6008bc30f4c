"""The texts of /proc/PID/maps, smaps and mountinfo, and what is made of them when they lie."""

from __future__ import annotations

import os
from errno import EIO, ESRCH
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.maps import Mapping, entries, parse_mapping
from hybridbridge_vol.procfs.mounts import Mount, parse_mount, unescape
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row

addresses = st.integers(0, (1 << 47) - 1).map(lambda page: page & -4096)
paths = st.text(st.characters(blacklist_characters="\n\\\0", blacklist_categories=("Cs", "Zs")), max_size=30)


@given(addresses, st.integers(1, 1 << 30), st.integers(0, 1 << 40), st.integers(0, 1 << 60), paths)
def test_a_mapping_is_read_back_as_the_kernel_wrote_it(
    start: int, size: int, offset: int, inode: int, path: str
) -> None:
    line = f"{start:08x}-{start + size:08x} rw-s {offset:08x} fd:0a {inode} "
    mapping = parse_mapping((line.ljust(72) + " " + path if path else line).encode())
    assert mapping == Mapping(start, start + size, "rw-s", offset, 0xFD, 0x0A, inode, path)
    assert (mapping.size, mapping.device) == (size, "253:10")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_possible_mapping_or_a_parse_error(line: bytes) -> None:
    try:
        mapping = parse_mapping(line)
    except ParseError:
        return
    assert mapping.start_vaddr < mapping.end_vaddr


@pytest.mark.parametrize(
    "line", [b"2000-1000 rw-p 0 0:0 0", b"1000-1000 rw-p 0 0:0 0", b"0-fffffffffffffffff rw-p 0 0:0 0"]
)
def test_an_impossible_range_is_refused(line: bytes) -> None:
    with pytest.raises(ParseError, match="impossible"):
        parse_mapping(line)


def test_names_keep_blanks_and_newlines() -> None:
    mapping = parse_mapping(
        b"1000-2000 r--p 00000000 00:01 7                          /tmp/a  b\\012c (deleted)"
    )
    assert mapping.path == "/tmp/a  b\nc (deleted)"


@pytest.mark.parametrize("name", ["maps", "smaps"])
def test_each_entry_names_the_bytes_it_was_read_from(name: str) -> None:
    data = Path(f"/proc/self/{name}").read_bytes()
    found = list(entries("/x", data))
    assert len(found) > 10
    assert b"".join(data[entry.source.start : entry.source.end] for entry in found) == data
    for entry in found:
        assert isinstance(entry.mapping, Mapping)
        assert data[entry.source.start :].startswith(f"{entry.mapping.start_vaddr:08x}-".encode())
        assert name == "maps" or entry.sizes["Size"] * 1024 == entry.mapping.size


@pytest.mark.parametrize(("name", "file"), [("maps", "maps"), ("maps", "smaps"), ("lsof", "maps")])
def test_a_task_without_memory_has_no_mappings_however_the_kernel_says_so(name: str, file: str) -> None:
    """6.16 answers ESRCH for kernel threads; any other error is told, in a row of its own, or in each mapping
    whose sizes it hides."""
    tool, pid = tools.load(name), os.getpid()
    options = tool.defaults() | {"pid": (pid,)}
    if name == "maps":
        options["smaps"] = file == "smaps"

    def untold(answer: bytes | Exception) -> list[Row]:
        rows = list(tool.rows(LiveKernel({f"/proc/{pid}/{file}": answer}), options))
        path = f"/{file}: "
        return [
            row
            for row in rows
            if any(isinstance(cell, Unavailable) and path in cell.reason for cell in row.cells)
        ]

    assert untold(b"") == []
    assert untold(OSError(ESRCH, os.strerror(ESRCH))) == []
    told = len(untold(OSError(EIO, os.strerror(EIO))))
    assert told == 1 if file == "maps" else told > 10


def test_a_cyclic_list_of_mappings_ends_with_an_error() -> None:
    data = b"1000-2000 r--p 0 0:0 0\n3000-4000 r--p 0 0:0 0\n" * 3
    *good, last = entries("/x", data)
    assert len(good) == 2
    assert "is cyclic" in str(last.mapping)


@given(st.lists(st.binary(max_size=60), max_size=8).map(b"\n".join))
def test_no_text_makes_entries_fail(data: bytes) -> None:
    for entry in entries("/x", data):
        assert isinstance(entry.mapping, (Mapping, ParseError))


def test_a_mount_of_every_field() -> None:
    line = rb"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:7 - ext3 /dev/r\134oot rw,errors=continue"
    assert parse_mount(line) == Mount(
        36,
        35,
        "98:0",
        "/mnt1",
        "/mnt 2",
        "rw,noatime",
        "master:1 shared:7",
        "ext3",
        "/dev/r\\oot",
        "rw,errors=continue",
    )


def test_a_private_mount_has_no_propagation() -> None:
    assert parse_mount(b"1 1 0:2 / / rw - rootfs  rw").source == ""
    assert parse_mount(b"1 1 0:2 / / rw - rootfs none rw").propagation == ""


@given(st.binary(max_size=120))
def test_any_bytes_give_a_mount_with_a_device_or_a_parse_error(line: bytes) -> None:
    try:
        assert ":" in parse_mount(line).device
    except ParseError:
        pass


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_the_kernel_escapes_is_decoded(name: str) -> None:
    escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in name)
    assert unescape(escaped.encode()) == name
