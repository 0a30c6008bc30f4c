"""What the descriptors of this process lead to."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress

_READINGS = 50
_PAUSE = 0.05


def open_files() -> Counter[str]:
    """The target of each descriptor, with how many lead there. One that another thread, or the garbage
    collector, closes meanwhile is none; the descriptor of the listing itself neither."""
    targets: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            targets[os.readlink(f"/proc/self/fd/{name}")] += 1
    return targets


def left_open(before: Counter[str]) -> Counter[str]:
    """What is open beyond `before`, and stays open: other threads of the process (Dask's) open files of
    their own for a moment."""
    left = open_files() - before
    for _ in range(_READINGS):
        if not left:
            break
        time.sleep(_PAUSE)
        left &= open_files() - before
    return left
