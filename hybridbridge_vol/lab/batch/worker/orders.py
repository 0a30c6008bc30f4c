"""What a worker is asked for, and what it answers: one line each (`events.encode`) over its standard input
and output. Any number of `Step` lines come before the answer to an order."""

from __future__ import annotations

import msgspec

from hybridbridge_vol.lab.batch.assembly import Examination
from hybridbridge_vol.lab.batch.events import Identified, Step
from hybridbridge_vol.lab.batch.request import Request


class Identify(msgspec.Struct, frozen=True, tag=True):
    """Identify one file against a trust store (None: the user's), within seconds of wall time and bytes of
    private memory. `kernel_at` as in a request."""

    path: str
    store: str | None
    seconds: float
    memory: int
    kernel_at: int | None = None


class Examine(msgspec.Struct, frozen=True, tag=True):
    """Examine one image, within the request's limits."""

    request: Request


class Examined(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Examine`."""

    examination: Examination


Order = Identify | Examine
Answer = Step | Identified | Examined
