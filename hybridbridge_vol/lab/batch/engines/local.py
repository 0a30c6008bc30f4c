"""The engine of one machine: a number of workers, each with one image at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from hybridbridge_vol.lab.batch.assembly import Examination
from hybridbridge_vol.lab.batch.engines.engine import ImageStep, ReportStep
from hybridbridge_vol.lab.batch.identify import Identity
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.lab.batch.worker.client import Cancelled, WorkerClient

T = TypeVar("T")


class _Broken(NamedTuple):
    """A thread ended with this error."""

    error: BaseException


class LocalEngine:
    """An `Engine` with `jobs` workers."""

    def __init__(self, jobs: int, report_step: ReportStep = lambda _image, _step: None) -> None:
        self._report_step = report_step
        self._clients = [WorkerClient() for _ in range(jobs)]
        self._idle: queue.SimpleQueue[WorkerClient] = queue.SimpleQueue()
        for client in self._clients:
            self._idle.put(client)
        self._pool = ThreadPoolExecutor(jobs, "worker client")
        self._news: queue.SimpleQueue[ImageStep | Examination | _Broken] = queue.SimpleQueue()
        """From the pool's threads to the one that iterates `finished`."""
        self._outstanding = 0
        self._closed = threading.Event()

    def identify(
        self, paths: Iterable[str], store: str | None, seconds: float, kernel_at: int | None = None
    ) -> Iterator[Identity]:
        """Identify files, each within so many seconds; in their order. `kernel_at` as in a request."""

        def one(path: str) -> Identity:
            return self._with_client(lambda client: client.identify(path, store, seconds, kernel_at))

        yield from self._pool.map(one, paths)

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        self._outstanding += 1
        self._pool.submit(self._examine, request)

    def finished(self) -> Iterator[Examination]:
        """See `Engine`."""
        while self._outstanding:
            match self._news.get():
                case ImageStep(image, step):
                    self._report_step(image, step)
                case _Broken(error):
                    self._outstanding -= 1
                    raise error
                case Examination() as examination:
                    self._outstanding -= 1
                    yield examination

    def _examine(self, request: Request) -> None:
        def report(step: str) -> None:
            self._news.put(ImageStep(request.id, step))

        try:
            self._news.put(self._with_client(lambda client: client.examine(request, report)))
        except BaseException as error:  # noqa: BLE001  for the thread that waits
            self._news.put(_Broken(error))

    def _with_client(self, work: Callable[[WorkerClient], T]) -> T:
        client = self._idle.get()
        try:
            if self._closed.is_set():
                raise Cancelled
            return work(client)
        finally:
            self._idle.put(client)

    def cancel(self) -> None:
        """See `Engine`."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.cancel()
        self._outstanding = 0

    def close(self) -> None:
        """See `Engine`."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()
