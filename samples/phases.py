"""What a maker of images shows while it works: its phases."""

from __future__ import annotations

import sys
import threading
import time

_PATIENCE = 1.0
"""Seconds of work before anything is shown."""


class Phases:
    """Phases with the time they began, on standard error; nothing if the whole takes less than a second."""

    def __init__(self, label: str, shown: bool) -> None:
        self._label = label
        self._shown = shown
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._pending: str | None = None
        self._timer = threading.Timer(_PATIENCE, self._show_pending)
        self._timer.daemon = True
        self._timer.start()

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._start

    def begin(self, text: str) -> None:
        """The next phase begins."""
        with self._lock:
            self._pending = f"{self._label}: {self.seconds:5.1f} s  {text}"
        if self.seconds >= _PATIENCE:
            self._show_pending()

    def done(self) -> None:
        """Nothing more is shown."""
        self._timer.cancel()
        with self._lock:
            self._pending = None

    def _show_pending(self) -> None:
        with self._lock:
            line, self._pending = self._pending, None
        if line and self._shown:
            print(line, file=sys.stderr, flush=True)
