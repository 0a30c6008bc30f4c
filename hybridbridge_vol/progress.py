"""A progress bar on standard error: on a terminal only, and only for work that takes longer than a second."""

from __future__ import annotations

import sys
import time
from typing import Self

PATIENCE = 1.0
"""Seconds of work before the bar appears."""
INTERVAL = 0.1
"""Seconds between two updates."""
BAR = 30
"""Characters of the bar."""


class Progress:
    """A `units.Progress`: called with the fraction done (1 ends the bar) and what is being done. As a context
    manager it leaves a clean line."""

    def __init__(self) -> None:
        self._quiet = not sys.stderr.isatty()
        self._next = time.monotonic() + PATIENCE
        self._drawn = False

    def __call__(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if fraction >= 1:
            self.clear()
            return
        if self._quiet or now < self._next:
            return
        self._next = now + INTERVAL
        self._drawn = True
        filled = round(BAR * min(max(fraction, 0.0), 1.0))
        sys.stderr.write(f"\r\x1b[K[{'#' * filled}{'.' * (BAR - filled)}] {fraction:4.0%} {text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the bar, before anything else is written."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
