"""The engine of one machine: so many nurseries, each with one image at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hybridbridge_vol.lab.batch.engines.engine import Step
from hybridbridge_vol.lab.batch.examine import Examination, Request
from hybridbridge_vol.lab.batch.identify import Identity
from hybridbridge_vol.lab.batch.worker.client import Cancelled, Examiner


class LocalEngine:
    """An `engines.Engine` with `jobs` processes; `step` is told what they are at, from the thread that
    iterates `finished`."""

    def __init__(self, jobs: int, step: Step = lambda _image, _name: None) -> None:
        self._step = step
        self._examiners = [Examiner() for _ in range(jobs)]
        self._idle: queue.SimpleQueue[Examiner] = queue.SimpleQueue()
        for examiner in self._examiners:
            self._idle.put(examiner)
        self._pool = ThreadPoolExecutor(jobs, "examiner")
        self._news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._outstanding = 0
        self._closed = threading.Event()

    def identify(self, paths: Iterable[str], store: str | None, seconds: float) -> Iterator[Identity]:
        """Identify files, in their order."""

        def one(path: str) -> Identity:
            identity: Identity = self._with_examiner(lambda examiner: examiner.identify(path, store, seconds))
            return identity

        yield from self._pool.map(one, paths)

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        self._outstanding += 1
        self._pool.submit(self._examine, request)

    def finished(self) -> Iterator[Examination]:
        """See `Engine`."""
        while self._outstanding:
            kind, what = self._news.get()
            if kind == "step":
                self._step(*what)
                continue
            self._outstanding -= 1
            if kind == "failed":
                raise what
            yield what

    def _examine(self, request: Request) -> None:
        try:
            examination = self._with_examiner(
                lambda examiner: examiner.examine(
                    request, lambda name: self._news.put(("step", (request.id, name)))
                )
            )
            self._news.put(("examination", examination))
        except BaseException as error:  # noqa: BLE001  for the thread that waits
            self._news.put(("failed", error))

    def _with_examiner(self, work: Callable[[Examiner], Any]) -> Any:
        examiner = self._idle.get()
        try:
            if self._closed.is_set():
                raise Cancelled
            return work(examiner)
        finally:
            self._idle.put(examiner)

    def cancel(self) -> None:
        """See `Engine`."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for examiner in self._examiners:
            examiner.cancel()
        self._outstanding = 0

    def close(self) -> None:
        """See `Engine`."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for examiner in self._examiners:
            examiner.close()
