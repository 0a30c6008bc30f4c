"""What is reported while an image is examined, as typed events; and how they travel between processes.

    child that examines -> its supervisor -> (worker's standard output) -> client in the batch

`examine.events` yields them, `assembly.Assembly` is the one place that turns them into a record. On the way
each is one line of JSON. The standard library writes and reads the JSON, because texts of a guest hold lone
surrogates (bytes that are not UTF-8); msgspec checks the types on arrival.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from hybridbridge_vol.lab.batch.dataset import ToolRun
from hybridbridge_vol.lab.batch.identify import Identity

OPENING, HASHING, CLOSING, IDENTIFYING = "opening", "sha256", "closing", "identifying"
"""Steps that are not a tool."""


class Step(msgspec.Struct, frozen=True, tag=True):
    """Work on something begins: a tool's name, or one of the steps above. It may take its time limit from
    here on."""

    name: str


class Facts(msgspec.Struct, frozen=True, tag=True):
    """Fields of a `dataset.Record` that were found out; None: not known, or reported by another event."""

    format: str | None = None
    kernel: str | None = None
    release: str | None = None
    banner: str | None = None
    captured: float | None = None
    cpus: int | None = None
    sha256: str | None = None
    notes: str | None = None

    def updated(self, news: Facts) -> Facts:
        """These facts, with those that `news` knows in their place."""
        known = {name: value for name, value in msgspec.structs.asdict(news).items() if value is not None}
        return msgspec.structs.replace(self, **known)


class ToolDone(msgspec.Struct, frozen=True, tag=True):
    """A tool has ended, one way or another; `table` is the path of its rows, if it has any."""

    run: ToolRun
    table: str | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """No further tool can be run; one line says why."""

    reason: str


class Used(msgspec.Struct, frozen=True, tag=True):
    """What one process has used that worked on the image: seconds of CPU, peak of resident bytes."""

    cpu_seconds: float
    peak_rss: int


class Learned(msgspec.Struct, frozen=True, tag=True):
    """A memo that has grown (`memo_file.dump`, in base 64): the process that works on the image cannot write
    into the store."""

    memo: str


class NeedsBoot(msgspec.Struct, frozen=True, tag=True):
    """No tool can be run before the stored kernel of that name is booted again, by whoever may write into the
    store: see `errors.BootNeeded`."""

    kernel: str
    start_vaddr: int
    end_vaddr: int
    levels: int


class Identified(msgspec.Struct, frozen=True, tag=True):
    """What a file is: the answer to an order to identify it."""

    identity: Identity


Event = Step | Facts | ToolDone | Failed | Used | Learned | NeedsBoot | Identified


def encode(message: msgspec.Struct) -> bytes:
    """A message as one line of JSON, in ASCII."""
    return json.dumps(msgspec.to_builtins(message)).encode() + b"\n"


def decode(line: bytes, kind: Any) -> Any:
    """The message in a line, which must be a `kind`: a type or a union of types. ValueError."""
    return msgspec.convert(json.loads(line), type=kind)
