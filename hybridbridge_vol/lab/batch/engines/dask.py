"""The engine of many machines: examinations are tasks of a Dask cluster (distributed), one started here or
one that exists.

Dask gives a task that was on a killed worker to another worker; so each image is answered once, however often
it was begun.
"""

from __future__ import annotations

import queue
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridbridge_vol import __version__
from hybridbridge_vol.errors import BatchError

try:
    import distributed
except ImportError:
    raise BatchError("--engine dask needs distributed: pip install 'hybridbridge-vol[dask]'") from None
from hybridbridge_vol.lab.batch.assembly import Examination, unexamined
from hybridbridge_vol.lab.batch.bundle import add_memos, checksum_of, pack_entry, read_memos
from hybridbridge_vol.lab.batch.engines import dask_worker
from hybridbridge_vol.lab.batch.engines.dask_worker import NeedsEntry, Sent, Source
from hybridbridge_vol.lab.batch.engines.engine import ImageStep, ReportStep
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.trust.store import Store

CONNECT_SECONDS = 15
"""How long to wait for a scheduler."""
WORKER_SECONDS = 60
"""How long to wait for the scheduler's first worker."""
_POLL_SECONDS = 1.0

Future = Any
"""A `distributed.Future`: its package is not typed."""


class DaskEngine:
    """An `Engine` on the cluster of the scheduler at `address`; without an address on `jobs` workers of its
    own on this machine. BatchError if there is no scheduler or no worker, or one of another version."""

    def __init__(
        self, jobs: int, report_step: ReportStep = lambda _image, _step: None, address: str | None = None
    ) -> None:
        self._report_step = report_step
        self._where = address or "the local Dask cluster"
        self._news: queue.SimpleQueue[ImageStep | Future] = queue.SimpleQueue()
        """From Dask's threads to the one that iterates `finished`: steps, and futures that are done."""
        self._requests: dict[Future, Request] = {}
        """By the future that answers it."""
        self._entries: dict[str, Future] = {}
        """Entries that were sent to the workers, by kernel."""
        self._cluster: Any = None
        try:
            if address is None:
                self._cluster = distributed.LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs="CRITICAL",
                )
            self._client = distributed.Client(address or self._cluster, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            self._close_cluster()
            raise BatchError(f"{self._where}: no Dask scheduler answers there ({_line(error)})") from None
        try:
            self._check_workers()
        except BaseException:
            self.close()
            raise
        self._client.subscribe_topic(dask_worker.STEPS, lambda event: self._news.put(ImageStep(*event[1])))

    def _check_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            raise BatchError(
                f"{self._where}: the scheduler has no worker; start some with 'dask worker ADDRESS'"
            ) from None
        try:
            versions: dict[str, str] = self._client.run(_version)
        except Exception as error:  # noqa: BLE001  whatever the worker raised
            raise BatchError(
                f"{self._where}: the workers cannot run this program ({_line(error)}); install it there"
            ) from None
        for worker, version in versions.items():
            if version != __version__:
                raise BatchError(
                    f"{worker}: the worker has version {version} of this program, this machine {__version__}"
                )

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        self._submit(request, None)

    def _submit(self, request: Request, entry: Future) -> None:
        future = self._client.submit(
            dask_worker.examine, request, _source(request), entry,
            key=f"hybridbridge-{request.id}-{secrets.token_hex(4)}", pure=False,
        )  # fmt: skip
        self._await(future, request)

    def _await(self, future: Future, request: Request) -> None:
        self._requests[future] = request
        future.add_done_callback(self._news.put)

    def finished(self) -> Iterator[Examination]:
        """See `Engine`. BatchError if the scheduler is lost."""
        while self._requests:
            try:
                news = self._news.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._client.status in ("closing", "closed"):
                    self._lost()
                continue
            if isinstance(news, ImageStep):
                self._report_step(*news)
            elif news in self._requests:
                examination = self._answer(news, self._requests.pop(news))
                if examination is not None:
                    yield examination

    def _answer(self, future: Future, request: Request) -> Examination | None:
        """What a finished task comes to; None if it was submitted again, or its answer is made again."""
        if future.status in ("lost", "pending") and self._client.status == "running":
            # the worker that had it ended before it was fetched; the scheduler gives the task to another
            self._await(future, request)
            return None
        if future.status in ("cancelled", "lost"):
            self._lost()
        if future.status != "finished":
            problem = _line(future.exception())
            return unexamined(request, f"{request.path}: the worker failed over it ({problem})")
        sent: Sent | NeedsEntry = future.result()
        future.release()
        if isinstance(sent, NeedsEntry):
            self._submit(request, self._entry(request))
            return None
        if sent.memos and request.kernel is not None:
            add_memos(Store(_root(request)).root / request.kernel, sent.memos)
        return replace(sent.examination, tables=_stored(request, sent.tables))

    def _entry(self, request: Request) -> Future:
        assert request.kernel is not None
        if request.kernel not in self._entries:
            packed = pack_entry(Store(_root(request)).root / request.kernel)
            self._entries[request.kernel] = self._client.scatter(packed, hash=False)
        return self._entries[request.kernel]

    def _lost(self) -> None:
        self._requests.clear()
        raise BatchError(f"{self._where}: the scheduler is gone; run the batch again, what is done is kept")

    def cancel(self) -> None:
        """See `Engine`."""
        futures, self._requests = list(self._requests), {}
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)

    def close(self) -> None:
        """See `Engine`."""
        self._client.close()
        self._close_cluster()

    def _close_cluster(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


def _version() -> str:
    return __version__


def _root(request: Request) -> Path | None:
    return Path(request.store) if request.store else None


def _source(request: Request) -> Source | None:
    if request.kernel is None:
        return None
    root = Store(_root(request)).root
    entry = root / request.kernel
    return Source(str(root), request.kernel, checksum_of(entry) or "", read_memos(entry))


def _stored(request: Request, tables: dict[str, tuple[str, bytes]]) -> dict[str, str]:
    """Write tables that were sent into the request's staging directory; their paths by tool."""
    folder = Path(request.staging)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for tool, (name, data) in tables.items():
        path = folder / Path(name).name
        path.write_bytes(data)
        found[tool] = str(path)
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
