"""What a Dask worker does: one image at a time, in a child with limits, as the local engine does.

The Dask worker needs this program, and the image under the path that the batch has for it. It uses the
batch's trust store if it can reach it (on a share); otherwise the kernel's entry is sent to it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import get_worker

from hybridbridge_vol.lab.batch.assembly import Examination, unexamined
from hybridbridge_vol.lab.batch.bundle import Memos, add_memos, checksum_of, read_memos, unpack_entry
from hybridbridge_vol.lab.batch.engines.engine import ImageStep
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.lab.batch.worker.client import WorkerClient

STEPS = "hybridbridge-steps"
"""The topic on which workers report the fields of an `ImageStep`."""

_of_thread = threading.local()


@dataclass(frozen=True)
class Source:
    """Where a request's kernel is: an entry of a store, by its name and checksum, and the memos that the
    batch has for it now."""

    store: str
    kernel: str
    checksum: str
    memos: Memos


@dataclass(frozen=True)
class NeedsEntry:
    """The worker cannot begin: the kernel's entry must be sent."""


@dataclass(frozen=True)
class Sent:
    """What a worker sends back: the examination, its tables by tool (file name and bytes), and what it has
    proven, if the batch's store is not its own."""

    examination: Examination
    tables: dict[str, tuple[str, bytes]]
    memos: Memos | None = None


def examine(request: Request, source: Source | None, entry: bytes | None) -> Sent | NeedsEntry:
    """Examine one image here; `entry` is the kernel's, if it was sent."""
    if not os.path.exists(request.path):
        reason = f"not found on worker {os.uname().nodename}: images must lie there under the same path"
        return Sent(unexamined(request, f"{request.path}: {reason}"), {})
    own: Path | None = None
    if source is not None and checksum_of(Path(source.store) / source.kernel) != source.checksum:
        own = Path(_directory()) / f"store-{source.checksum}" / source.kernel
        if checksum_of(own) != source.checksum:
            if entry is None:
                return NeedsEntry()
            unpack_entry(entry, own)
        add_memos(own, source.memos)
        request = replace(request, store=str(own.parent))
    with tempfile.TemporaryDirectory(dir=_directory()) as staging:
        examination = _client().examine(
            replace(request, staging=staging), lambda step: _report(ImageStep(request.id, step))
        )
        tables = {
            tool: (Path(path).name, Path(path).read_bytes()) for tool, path in examination.tables.items()
        }
    return Sent(examination, tables, None if own is None else read_memos(own))


def _client() -> WorkerClient:
    """This thread's client: it is kept, so that its worker loads everything once."""
    if not hasattr(_of_thread, "client"):
        _of_thread.client = WorkerClient()
    client: WorkerClient = _of_thread.client
    return client


def _directory() -> str:
    """The Dask worker's own directory, which is removed with it."""
    try:
        return str(get_worker().local_directory)
    except ValueError:
        return tempfile.gettempdir()  # not on a worker


def _report(step: ImageStep) -> None:
    try:
        get_worker().log_event(STEPS, tuple(step))
    except ValueError:
        return  # not on a worker
