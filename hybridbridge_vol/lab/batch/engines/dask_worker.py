"""What a Dask worker does: one image at a time, in a child with limits, as the local engine does.

The worker needs this program, and the image under the path that the batch has for it. The trust store may be
the batch's own, on a share, or else the kernel's entry is sent.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hybridbridge_vol.lab.batch.bundle import Memos, add_memos, read_memos, seal_of, unpack_entry
from hybridbridge_vol.lab.batch.examine import Examination, Gathered, Request
from hybridbridge_vol.lab.batch.worker.client import Examiner

STEPS = "hybridbridge-steps"
"""The topic on which workers tell what they are at: `(image's id, step)`."""

_of_thread = threading.local()


@dataclass(frozen=True)
class Source:
    """Where a request's kernel is: an entry of a store, by its name, and what it must be. `memos` are as the
    batch has them now."""

    store: str
    kernel: str
    seal: str
    memos: Memos


@dataclass(frozen=True)
class Sent:
    """What a worker answers: the record's fields, the tables' bytes by file name, by tool. `memos` is what it
    has proven, if the batch's store is not its own; `needs_entry`: it could not begin, the kernel's entry
    must be sent."""

    record: dict[str, Any] | None = None
    tables: dict[str, tuple[str, bytes]] | None = None
    memos: Memos | None = None
    needs_entry: bool = False


def examine(fields: dict[str, Any], source: Source | None, entry: bytes | None) -> Sent:
    """Examine one image here; `entry` is the kernel's if it was sent."""
    request = Request.from_dict(fields)
    if not os.path.exists(request.path):
        return _unreached(request)
    own: Path | None = None
    if source is not None and seal_of(Path(source.store) / source.kernel) != source.seal:
        own = Path(_folder()) / f"store-{source.seal}" / source.kernel
        if seal_of(own) != source.seal:
            if entry is None:
                return Sent(needs_entry=True)
            unpack_entry(entry, own)
        add_memos(own, source.memos)
        request = replace(request, store=str(own.parent))
    with tempfile.TemporaryDirectory(dir=_folder()) as staging:
        examination = _examiner().examine(
            replace(request, staging=staging), lambda name: _tell(request.id, name)
        )
        tables = {
            tool: (Path(path).name, Path(path).read_bytes()) for tool, path in examination.tables.items()
        }
    return Sent(asdict(examination.record), tables, None if own is None else read_memos(own))


def _examiner() -> Examiner:
    """This thread's: it is kept, so that what examinations need is loaded once."""
    if not hasattr(_of_thread, "examiner"):
        _of_thread.examiner = Examiner()
    examiner: Examiner = _of_thread.examiner
    return examiner


def _folder() -> str:
    """The worker's own, which goes with it."""
    from distributed import get_worker

    try:
        return str(get_worker().local_directory)
    except ValueError:
        return tempfile.gettempdir()  # not on a worker


def _tell(image: str, step: str) -> None:
    from distributed import get_worker

    try:
        get_worker().log_event(STEPS, (image, step))
    except ValueError:
        return  # not on a worker


def _unreached(request: Request) -> Sent:
    return Sent(
        asdict(
            failed(
                request,
                f"not found on worker {os.uname().nodename}: images must lie there under the same path",
            ).record
        ),
        {},
    )


def failed(request: Request, reason: str) -> Examination:
    """An image that could not be examined."""
    gathered = Gathered(request)
    gathered.cpu_seconds, gathered.peak_rss = 0.0, 0
    gathered.error = f"{request.path}: {reason}"
    return gathered.examination()
