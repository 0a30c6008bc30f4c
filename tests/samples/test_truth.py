"""What a guest said of itself, from the observer's records to truth.json and back."""

from __future__ import annotations

import json
import re
import struct
from errno import EINVAL, ENOENT
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples.compiler import sources
from samples.guest_files import GUEST
from samples.truth import MAGIC, Truth, document, parse_copy, read_records, records

EVERY_BYTE = bytes(range(256))
OBSERVER = "".join(path.read_text() for path in sources(GUEST / "observer.c"))


def record(kind: str, name: str, data: bytes = b"", status: int = 0) -> bytes:
    """`struct record` of guest/observer.c with its name and data, padded to 4 bytes."""
    raw = struct.pack("<IIII", ord(kind), status, len(name), len(data)) + name.encode("latin-1") + data
    return raw + bytes(-len(raw) % 4)


def memory(*parts: bytes, room: int = 64) -> bytes:
    """`struct head`, the records, and memory that was not used."""
    used = b"".join(parts)
    return struct.pack("<QQ", MAGIC, 16 + len(used)) + used + bytes(room)


def truth_of(tmp_path: Path, *parts: bytes) -> Truth:
    """The way of a truth: the observer's memory in a file, a document, JSON, the document again."""
    (tmp_path / "shared").write_bytes(memory(*parts))
    (tmp_path / "truth.json").write_text(
        json.dumps({"meta": {"seed": 5}, **read_records(tmp_path / "shared")})
    )
    return Truth.load(tmp_path / "truth.json")


def test_what_was_read_comes_back_to_the_byte(tmp_path: Path) -> None:
    truth = truth_of(
        tmp_path, record("e", "/proc/1/environ", EVERY_BYTE), record("l", "/proc/1/environ", EVERY_BYTE)
    )
    assert truth.file("/proc/1/environ") == EVERY_BYTE
    assert truth.early["/proc/1/environ"].data == EVERY_BYTE
    assert not truth.moved("/proc/1/environ")
    assert truth.meta == {"seed": 5}


@pytest.mark.parametrize(
    ("kinds", "readings", "early", "moved"),
    [
        ("el", (b"1", b"2"), b"1", True),
        ("ell", (b"1", b"1", b"2"), b"1", True),
        ("ell", (b"1", b"2", b"3"), b"2", True),
        ("ell", (b"3", b"2", b"3"), b"2", True),
        ("ll", (b"2", b"3"), b"2", True),
        ("ell", (b"3", b"3", b"3"), b"3", False),
        ("l", (b"3",), b"3", False),
        ("e", (b"3",), b"3", False),
    ],
)
def test_the_last_reading_of_a_file_wins_and_one_that_differed_is_kept(
    tmp_path: Path, kinds: str, readings: tuple[bytes, ...], early: bytes, moved: bool
) -> None:
    parts = [record(kind, "/proc/stat", data) for kind, data in zip(kinds, readings, strict=True)]
    truth = truth_of(tmp_path, *parts)
    assert (truth.file("/proc/stat"), truth.early["/proc/stat"].data) == (readings[-1], early)
    assert truth.moved("/proc/stat") == moved


def test_a_file_that_failed_is_known_by_its_errno(tmp_path: Path) -> None:
    truth = truth_of(
        tmp_path, record("e", "/proc/1/attr/exec", b"", EINVAL), record("l", "/proc/1/attr/exec", b"", EINVAL)
    )
    assert truth.late["/proc/1/attr/exec"].errno == EINVAL
    assert not truth.moved("/proc/1/attr/exec")
    with pytest.raises(KeyError):
        truth.file("/proc/1/attr/exec")


def test_a_file_that_failed_only_once_has_moved(tmp_path: Path) -> None:
    truth = truth_of(
        tmp_path,
        record("e", "/failed first", b"", ENOENT), record("l", "/failed first", b"now"),
        record("e", "/failed later", b"then"), record("l", "/failed later", b"", ENOENT),
    )  # fmt: skip
    assert truth.moved("/failed first") and truth.moved("/failed later")
    assert truth.early["/failed first"].errno == ENOENT
    assert truth.file("/failed first") == b"now"
    assert truth.early["/failed later"].data == b"then"
    assert truth.late["/failed later"].errno == ENOENT


def test_commands_links_folders_clocks_and_processes_are_told(tmp_path: Path) -> None:
    truth = truth_of(
        tmp_path,
        record("c", "hostname", "sample-ü\n".encode()), record("c", "lsof -n", b"half of it", 256),
        record("c", "nosuch", b"", ENOENT), record("c", "true", b""),
        record("k", "/proc/1/exe", b"/usr/bin/dash"), record("k", "/proc/2/exe", b"", ENOENT),
        record("d", "/proc/1/fd", b"2\n0\n1\n"), record("d", "/proc/9/fd", b"", ENOENT),
        record("t", "realtime", b"10.000000001"), record("t", "realtime", b"11.5"),
        record("t", "boottime", b"1.25"),
        record("p", "", b"12\n2\n1\n"), record("s", "", b"3"),
    )  # fmt: skip
    assert truth.command("hostname") == "sample-ü\n"
    assert truth.commands.keys() == {"hostname", "lsof -n", "true"}
    assert truth.links["/proc/1/exe"].data == b"/usr/bin/dash"
    assert truth.links["/proc/2/exe"].errno == ENOENT
    assert truth.names("/proc/1/fd") == ["2", "0", "1"]
    with pytest.raises(KeyError):
        truth.names("/proc/9/fd")
    assert truth.times == {"realtime": 11.5, "boottime": 1.25}
    assert truth.processes == [1, 2, 12]


def test_a_command_s_status_is_kept_if_it_failed() -> None:
    error_text = document(
        memory(record("c", "nosuch", b"", ENOENT), record("c", "true", b""), record("s", "", b"1"))
    )
    assert error_text["status"] == {"nosuch": ENOENT}
    assert error_text["settled"] == 1


def test_a_guest_that_did_not_finish_is_told() -> None:
    for unfinished in (bytes(4096), b"", memory()[:12], memory(record("e", "/x", b"data"), room=0)[:-4]):
        with pytest.raises(ValueError, match="observer"):
            list(records(unfinished))


@pytest.mark.parametrize("field", [2, 3])
def test_a_record_that_leads_out_of_the_memory_is_told(field: int) -> None:
    broken = bytearray(memory(record("e", "/x", b"data")))
    struct.pack_into("<I", broken, 16 + 4 * field, 0xFFFFFFF0)
    with pytest.raises(ValueError, match="record at 16 is cut short"):
        list(records(bytes(broken)))


def test_what_tools_said_of_a_copy_comes_with_the_copy() -> None:
    printed = b"==== free -b\nMem: 1\n\n==== vmstat\n==== files\n"
    printed += b"==> ./stat <==\ncpu 1\n\n==> ./1/cmdline <==\n\n==> ./1/stat <==\n1 (a)\n"
    files, outputs = parse_copy(printed)
    assert files == {"/proc/stat": b"cpu 1\n", "/proc/1/cmdline": b"", "/proc/1/stat": b"1 (a)\n"}
    assert outputs == {"free -b": "Mem: 1\n\n", "vmstat": ""}


@given(st.binary(max_size=200))
def test_random_records_end_with_records_or_an_error(tail: bytes) -> None:
    try:
        found = list(records(memory(tail, room=0)))
    except ValueError:
        return
    assert sum(16 + len(name) + len(data) for _kind, name, _status, data in found) <= len(tail) + 3


def test_reader_and_observer_agree_on_the_layout() -> None:
    magic = re.search(r"#define MAGIC (0x[0-9a-f]+)ull", OBSERVER)
    assert magic is not None
    assert int(magic[1], 16) == MAGIC
    assert "struct head { uint64_t magic, used; };" in OBSERVER
    assert "struct record { uint32_t kind, status, name_size, data_size; };" in OBSERVER


def test_every_kind_that_the_observer_writes_is_read() -> None:
    kinds = set(re.findall(r"(?:begin|record_file)\('(\w)'", OBSERVER))
    examples: dict[str, Any] = {"p": b"1\n", "s": b"1", "r": b"1"}
    empty = document(memory())
    for kind in kinds:
        assert document(memory(record(kind, "/x", examples.get(kind, b"text")))) != empty, kind
