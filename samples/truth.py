"""What a guest reported of itself right before its capture: truth.json, and the records that it is made
from."""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from samples.plan import TOOLS_ON_COPY

MAGIC = 0x3154524F50455248
_HEAD = struct.Struct("<QQ")
_RECORD = struct.Struct("<IIII")
_TEXT = "latin-1"
"""Bytes are kept as text with one character for each byte."""


@dataclass(frozen=True)
class Reading:
    """One reading of a file or link: its `data` if the guest's `errno` is 0."""

    errno: int
    data: bytes


class MemoryRange(NamedTuple):
    """Neighbouring pages of a process, `[start_vaddr, end_vaddr)`: the CRC-32 of what /proc/PID/mem gave, or
    None for pages that were swapped out. `errno` is not 0 if they were in memory and could not be read."""

    start_vaddr: int
    end_vaddr: int
    crc: int | None
    errno: int = 0


class Truth:
    """Typed access to truth.json (its shape is in samples/README.md).

    Paths are as the guest had them, links not followed. `late` is the last reading of a file before the
    capture, `early` one before it. `commands` maps a command line to what it printed.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read a truth.json."""
        return cls(json.loads(path.read_bytes()))

    @property
    def meta(self) -> dict[str, Any]:
        """The same as meta.json."""
        meta: dict[str, Any] = self._document["meta"]
        return meta

    @cached_property
    def times(self) -> dict[str, float]:
        """The guest's clocks at the capture, in seconds: realtime, monotonic, boottime."""
        return {name: float(text) for name, text in self._document["clock"].items()}

    @property
    def processes(self) -> list[int]:
        """The PIDs at the capture, rising; the observer, which was running, among them."""
        pids: list[int] = self._document["pids"]
        return pids

    @cached_property
    def late(self) -> dict[str, Reading]:
        """The last reading of every file."""
        return {
            path: Reading(entry.get("errno", 0), entry.get("late", "").encode(_TEXT))
            for path, entry in self._document["files"].items()
        }

    @cached_property
    def early(self) -> dict[str, Reading]:
        """Of every file the reading before the last that differed from it; the last, where none did."""
        moved = {
            path: _listed(entry["early"])
            for path, entry in self._document["files"].items()
            if "early" in entry
        }
        return self.late | moved

    @cached_property
    def links(self) -> dict[str, Reading]:
        """Where symbolic links led."""
        return {path: _listed(entry) for path, entry in self._document["links"].items()}

    @cached_property
    def commands(self) -> dict[str, str]:
        """What programs printed, by command line; those that were not there are left out."""
        return {
            line: text.encode(_TEXT).decode("utf-8", "surrogateescape")
            for line, text in self._document["commands"].items()
        }

    @cached_property
    def memory(self) -> dict[int, list[MemoryRange]]:
        """What processes had in memory and on swap devices, by PID, rising; of those that the plan names."""
        return {
            int(path.split("/")[2]): [_memory_range(line) for line in text.splitlines()]
            for path, text in self._document["memory"].items()
        }

    def file(self, path: str) -> bytes:
        """The last reading of a file; KeyError if it was not read or failed."""
        reading = self.late[path]
        if reading.errno:
            raise KeyError(path)
        return reading.data

    def names(self, folder: str) -> list[str]:
        """What a folder held, in the guest's order; KeyError if it was not read or failed."""
        entry = self._document["dirs"][folder]
        if isinstance(entry, dict):
            raise KeyError(folder)
        return list(entry)

    def moved(self, path: str) -> bool:
        """Whether the readings of a file differ: it may have moved after the last one too."""
        return "early" in self._document["files"][path]

    def command(self, line: str) -> str:
        """What a command printed; KeyError if it was not there."""
        return self.commands[line]

    @cached_property
    def proc_copy(self) -> tuple[dict[str, bytes], dict[str, str]]:
        """A copy of files of /proc, and what statistics tools printed of this copy by command line; KeyError
        in a light guest."""
        return parse_copy(self._document["commands"][TOOLS_ON_COPY].encode(_TEXT))


def _memory_range(line: str) -> MemoryRange:
    """A line of guest/process_memory.h."""
    pages, _, what = line.partition(" ")
    start, end = (int(part, 16) for part in pages.split("-"))
    if what.startswith("errno"):
        return MemoryRange(start, end, None, int(what.removeprefix("errno")))
    return MemoryRange(start, end, None if what == "swapped" else int(what, 16))


def _listed(entry: Any) -> Reading:
    if isinstance(entry, dict):
        return Reading(entry["errno"], b"")
    return Reading(0, str(entry).encode(_TEXT))


def parse_copy(printed: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    """What guest/tools_on_copy.sh printed: files by path, output by command line."""
    parts = re.split(rb"^==== (.*)\n", printed, flags=re.MULTILINE)
    outputs = dict(zip(parts[1::2], parts[2::2], strict=True))
    files = re.split(rb"^==> [.]/(.*) <==\n", outputs.pop(b"files", b""), flags=re.MULTILINE)
    *before, last = files[2::2] or [b""]
    contents = [text.removesuffix(b"\n") for text in before]  # `tail -v` adds an empty line between two files
    return (
        {
            f"/proc/{path.decode(_TEXT)}": text
            for path, text in zip(files[1::2], [*contents, last], strict=False)
        },
        {line.decode(): text.decode("utf-8", "surrogateescape") for line, text in outputs.items()},
    )


def records(data: bytes | mmap.mmap) -> Iterator[tuple[str, str, int, bytes]]:
    """`(kind, name, status, data)` of what the observer wrote (struct head and record in guest/observer.c).

    ValueError if there is nothing, or if it leads out of itself.
    """
    if len(data) < _HEAD.size:
        raise ValueError("the observer's memory is cut short")
    magic, end = _HEAD.unpack_from(data)
    if magic != MAGIC or not _HEAD.size <= end <= len(data):
        raise ValueError("the observer did not finish")
    at = _HEAD.size
    while at < end:
        if at + _RECORD.size > end:
            raise ValueError(f"the observer's record at {at} is cut short")
        kind, status, name_size, data_size = _RECORD.unpack_from(data, at)
        name_at = at + _RECORD.size
        data_at = name_at + name_size
        if data_at + data_size > end:
            raise ValueError(f"the observer's record at {at} is cut short")
        yield (
            chr(kind & 0x7F),
            bytes(data[name_at:data_at]).decode(_TEXT),
            status,
            bytes(data[data_at : data_at + data_size]),
        )
        at = (data_at + data_size + 3) & ~3


def document(data: bytes | mmap.mmap) -> dict[str, Any]:
    """truth.json but for its `meta`, out of what the observer wrote. ValueError as `records`."""
    result = _Document()
    for kind, name, status, value in records(data):
        result.add(kind, name, status, value)
    return result.finished()


class _Document:
    """truth.json while the records are read."""

    def __init__(self) -> None:
        self._early: dict[str, tuple[int, bytes]] = {}
        self._late: dict[str, tuple[int, bytes]] = {}
        self._result: dict[str, Any] = {
            "commands": {}, "status": {}, "files": {}, "links": {}, "dirs": {}, "clock": {}, "pids": [],
            "memory": {},
        }  # fmt: skip

    def add(self, kind: str, name: str, status: int, value: bytes) -> None:
        """One record. One of a kind that is not known is passed over."""
        result, text = self._result, value.decode(_TEXT)
        match kind:
            case "e":
                self._early[name] = (status, value)
            case "l":
                self._add_late(name, (status, value))
            case "c":
                self._add_command(name, status, text)
            case "k":
                result["links"][name] = {"errno": status} if status else text
            case "d":
                result["dirs"][name] = {"errno": status} if status else text.splitlines()
            case "m":
                result["memory"][name] = text
            case "t":
                result["clock"][name] = text
            case "s":
                result["settled"] = int(text)
            case "r":
                result["rounds"] = int(text)
            case "p":
                result["pids"] = sorted(int(pid) for pid in text.split())

    def _add_late(self, name: str, reading: tuple[int, bytes]) -> None:
        before = self._late.get(name)
        if before and before != reading:
            self._early[name] = before  # it moved between two late readings
        self._late[name] = reading

    def _add_command(self, line: str, status: int, text: str) -> None:
        if status:
            self._result["status"][line] = status
        if text or not status:
            self._result["commands"][line] = text

    def finished(self) -> dict[str, Any]:
        """The document: of each file the last reading, and one that differed from it."""
        for name in sorted(self._early.keys() | self._late.keys()):
            # a process that ended between the readings has no second one
            status, value = self._late.get(name) or self._early[name]
            entry: dict[str, Any] = {"errno": status} if status else {"late": value.decode(_TEXT)}
            first = self._early.get(name, (status, value))
            if first != (status, value):
                entry["early"] = {"errno": first[0]} if first[0] else first[1].decode(_TEXT)
            self._result["files"][name] = entry
        return self._result


def read_records(path: Path) -> dict[str, Any]:
    """`document` of the file behind the observer's memory."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        return document(view)
