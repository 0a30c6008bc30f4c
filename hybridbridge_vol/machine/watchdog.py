"""Ending a run that takes too long, or too much memory.

Unicorn must never be stopped asynchronously and then resumed (an instruction may run twice). The watchdog
therefore only ever stops a run whose effects are rolled back afterwards; `disarm` says why it did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hybridbridge_vol.allowance import taken_memory

MAX_MEMORY = 256 << 20
"""Bytes that one run may take: a loop that stores to all of the image's pages takes each of them as a private
copy, and under taint five times as much. Honest calls take some megabytes; of the 100 MiB that SLOW-BRIDGE
has for unions of labels they use a small part."""
POLL_SECONDS = 0.1
"""How late the watchdog may be; a poll costs some 10 microseconds."""
BUDGET, MEMORY = "budget", "memory"
"""Why a run was ended."""


class Watchdog:
    """One background thread that calls `stop` when a run has used the processor for too long, or has taken
    more than `MAX_MEMORY` since the last look before it.

    Call `arm(seconds)` before a run and `disarm()` after it, which answers why the run was ended. What
    counts is the processor time of the arming thread: neither a busy machine nor an image on a slow disk ends
    a run. The thread starts at the first run, and ends with `rest` or the process.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._clock = time.CLOCK_MONOTONIC
        self._deadline: float | None = None
        self._ended = ""
        self._run = 0
        self._thread: threading.Thread | None = None
        self._resting = threading.Event()

    def arm(self, seconds: float) -> None:
        """Start the clock for one run."""
        with self._lock:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._deadline = time.thread_time() + seconds  # the same clock, 20 times as fast
            self._ended = ""
            self._run += 1
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, args=(taken_memory(),), name="watchdog", daemon=True
            )
            self._thread.start()

    def disarm(self) -> str:
        """Stop the clock; why the run was ended since `arm` (`BUDGET`, `MEMORY`), empty if it was not."""
        with self._lock:
            self._deadline = None
            return self._ended

    def rest(self) -> None:
        """End the thread; the next run starts it again."""
        if self._thread is not None:
            self._resting.set()
            self._thread.join()
            self._thread = None
            self._resting.clear()

    def _watch(self, taken: int) -> None:
        run, before = 0, taken
        while not self._resting.wait(POLL_SECONDS):
            with self._lock:
                if run != self._run:
                    run, before = self._run, taken
                taken = taken_memory()
                if self._deadline is None:
                    continue
                if time.clock_gettime(self._clock) > self._deadline:
                    self._ended = BUDGET
                elif taken - before > MAX_MEMORY:
                    self._ended = MEMORY
                if self._ended:
                    self._stop()  # under the lock: never hits a later run
