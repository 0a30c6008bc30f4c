"""What a guest said of itself right before it was frozen: truth.json, and the records that it is made from."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

MAGIC = 0x3154524F50455248
_HEAD = struct.Struct("<QQ")
_RECORD = struct.Struct("<IIII")
_TEXT = "latin-1"
"""Bytes are kept as text with one character for each byte."""


class Truth:
    """Typed access to truth.json (its shape is in samples/README.md).

    Paths are as the guest had them; /proc/self and /proc/thread-self are not followed. Contents are bytes.
    `late` is the last reading before the freeze, `early` one some seconds before it.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._files: dict[str, dict[str, Any]] = document["files"]

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
    def clock(self) -> dict[str, float]:
        """The guest's clocks at the freeze: realtime, monotonic, boottime; in seconds."""
        return {name: float(text) for name, text in self._document["clock"].items()}

    @property
    def pids(self) -> list[int]:
        """The processes at the freeze, the observer too; rising."""
        pids: list[int] = self._document["pids"]
        return pids

    @property
    def paths(self) -> list[str]:
        """Every file that was read or failed to be."""
        return list(self._files)

    def command(self, line: str) -> str:
        """What a program printed, one character for each byte. KeyError if it was not run or not there."""
        text: str = self._document["commands"][line]
        return text

    @property
    def commands(self) -> list[str]:
        """The command lines that gave output."""
        return list(self._document["commands"])

    def late(self, path: str) -> bytes:
        """The last reading of a file. KeyError if it was not read, OSError with the guest's errno if that failed."""
        return self._reading(path, "late")

    def early(self, path: str) -> bytes:
        """The first reading of a file (the last, where there was one only). Errors as `late`."""
        return self._reading(path, "early" if "early" in self._files[path] else "late")

    def _reading(self, path: str, which: str) -> bytes:
        entry = self._files[path]
        if which in entry:
            text: str = entry[which]
            return text.encode(_TEXT)
        raise OSError(entry["errno"], "the guest could not read it", path)

    def errno(self, path: str) -> int:
        """Why the last reading of a file failed; 0 if it did not."""
        return int(self._files[path].get("errno", 0))

    def moved(self, path: str) -> bool:
        """Whether the readings of a file differ, so that a third may too."""
        return "early" in self._files[path]

    def link(self, path: str) -> str:
        """Where a symbolic link led. KeyError if it was not read, OSError if it could not be."""
        return str(self._listed("links", path))

    def names(self, folder: str) -> list[str]:
        """What a folder held, in the guest's order. Errors as `link`."""
        return list(self._listed("dirs", folder))

    def _listed(self, kind: str, path: str) -> Any:
        entry = self._document[kind][path]
        if isinstance(entry, dict):
            raise OSError(entry["errno"], "the guest could not read it", path)
        return entry


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
        yield chr(kind & 0x7F), bytes(data[name_at:data_at]).decode(_TEXT), status, bytes(data[data_at : data_at + data_size])
        at = (data_at + data_size + 3) & ~3


def document(data: bytes | mmap.mmap) -> dict[str, Any]:
    """truth.json but for its `meta`, out of what the observer wrote. ValueError as `records`."""
    readings: dict[str, dict[str, tuple[int, bytes]]] = {"e": {}, "l": {}}
    result: dict[str, Any] = {"commands": {}, "status": {}, "files": {}, "links": {}, "dirs": {}, "clock": {}, "pids": []}
    for kind, name, status, value in records(data):
        text = value.decode(_TEXT)
        if kind in readings:
            readings[kind][name] = (status, value)
        elif kind == "c":
            if status:
                result["status"][name] = status
            if text or not status:
                result["commands"][name] = text
        elif kind == "k":
            result["links"][name] = {"errno": status} if status else text
        elif kind == "d":
            result["dirs"][name] = {"errno": status} if status else text.splitlines()
        elif kind == "t":
            result["clock"][name] = text
        elif kind == "p":
            result["pids"] = sorted(int(pid) for pid in text.split())
    early, late = readings["e"], readings["l"]
    for name in sorted(early.keys() | late.keys()):
        # a process that ended between the readings has no second one
        status, value = late.get(name, early.get(name, (0, b"")))
        entry: dict[str, Any] = {"errno": status} if status else {"late": value.decode(_TEXT)}
        first = early.get(name, (status, value))
        if first != (status, value) and not first[0]:
            entry["early"] = first[1].decode(_TEXT)
        result["files"][name] = entry
    return result


def read_records(path: Path) -> dict[str, Any]:
    """`document` of the file behind the observer's memory."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        return document(view)
