"""Ending a run that takes too long.

Unicorn must never be stopped asynchronously and then resumed (an instruction may run twice). The watchdog
therefore only ever stops a run whose effects are rolled back afterwards; `disarm` says whether it did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL_SECONDS = 0.1
"""How late the watchdog may be; a poll costs microseconds."""


class Watchdog:
    """One background thread that calls `stop` when a run has used the processor for too long.

    Call `arm(seconds)` before a run and `disarm()` after it, which answers whether the run timed out. What
    counts is the processor time of the arming thread: neither a busy machine nor an image on a slow disk ends
    a run. The thread starts at the first run, and ends with `rest` or the process.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._clock = time.CLOCK_MONOTONIC
        self._deadline: float | None = None
        self._expired = False
        self._thread: threading.Thread | None = None
        self._resting = threading.Event()

    def arm(self, seconds: float) -> None:
        """Start the clock for one run."""
        with self._lock:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._deadline = time.thread_time() + seconds  # the same clock, 20 times as fast
            self._expired = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def disarm(self) -> bool:
        """Stop the clock; True if the run timed out since `arm`."""
        with self._lock:
            self._deadline = None
            return self._expired

    def rest(self) -> None:
        """End the thread; the next run starts it again."""
        if self._thread is not None:
            self._resting.set()
            self._thread.join()
            self._thread = None
            self._resting.clear()

    def _watch(self) -> None:
        while not self._resting.wait(POLL_SECONDS):
            with self._lock:
                if self._deadline is not None and time.clock_gettime(self._clock) > self._deadline:
                    self._expired = True
                    self._stop()  # under the lock: never hits a later run
