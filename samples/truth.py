"""What a guest said of itself right before it was frozen."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LENGTHS = struct.Struct("<III")


@dataclass(frozen=True)
class Reading:
    """One reading of a file, a link or a command: `data` if `errno` (for commands: the exit status) is 0."""

    errno: int
    data: bytes


@dataclass
class Truth:
    """All that the observer recorded.

    `early` and `late` are two readings of every file, `late` the last thing done before the freeze; what differs
    between them moves. `links` are targets of symbolic links, `commands` the output of the guest's own tools,
    `times` its clocks after the last reading (seconds),
    `processes` the PIDs it had then.
    """

    early: dict[str, Reading] = field(default_factory=dict)
    late: dict[str, Reading] = field(default_factory=dict)
    links: dict[str, Reading] = field(default_factory=dict)
    commands: dict[str, Reading] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    processes: list[int] = field(default_factory=list)

    def file(self, path: str) -> bytes:
        """The last reading of a file; KeyError if it was not read or failed."""
        reading = self.late[path]
        if reading.errno:
            raise KeyError(path)
        return reading.data

    def moved(self, path: str) -> bool:
        """Whether the two readings of a file differ."""
        return self.early.get(path) != self.late.get(path)

    def command(self, line: str) -> str:
        """What a command printed."""
        return self.commands[line].data.decode("utf-8", "surrogateescape")

    def save(self, path: Path) -> None:
        """Write JSON; bytes as latin-1 text."""
        document = {
            kind: {name: [reading.errno, reading.data.decode("latin-1")] for name, reading in getattr(self, kind).items()}
            for kind in ("early", "late", "links", "commands")
        }
        path.write_text(json.dumps({**document, "times": self.times, "processes": self.processes}))

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `save` wrote."""
        document = json.loads(path.read_text())
        truth = cls(times=document["times"], processes=document["processes"])
        for kind in ("early", "late", "links", "commands"):
            for name, (number, text) in document[kind].items():
                getattr(truth, kind)[name] = Reading(number, text.encode("latin-1"))
        return truth


def records(data: bytes) -> Iterator[tuple[str, str, int, bytes]]:
    """`(kind, name, status, data)` of the observer's output. ValueError if it is cut short."""
    (size,) = struct.unpack_from("<Q", data)
    if not 0 < size <= len(data) - 8:
        raise ValueError("the observer wrote nothing")
    offset, end = 8, 8 + size
    while offset < end:
        name_size, status, data_size = _LENGTHS.unpack_from(data, offset)
        offset += _LENGTHS.size
        kind, _, name = data[offset : offset + name_size].decode("utf-8", "surrogateescape").partition(":")
        offset += name_size
        yield kind, name, status, data[offset : offset + data_size]
        offset += data_size


def parse(data: bytes) -> Truth:
    """The observer's output as a Truth."""
    truth = Truth()
    tables = {"early": truth.early, "late": truth.late, "link": truth.links, "command": truth.commands}
    for kind, name, status, value in records(data):
        if kind == "time":
            truth.times[name] = float(value)
        elif kind == "pids":
            truth.processes = sorted(int(pid) for pid in value.split())
        else:
            tables[kind][name] = Reading(status, value)
    return truth
