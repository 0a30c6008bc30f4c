"""How a process that answers once and ends spends less on Python's search for garbage."""

from __future__ import annotations

import gc

_ALLOCATIONS = 50_000
"""Objects that are made, and not released, between two searches: some 5 MB."""


def search_seldom() -> None:
    """What is loaded by now is code, which is never garbage: it is searched no more, not even at the end of
    the process, and what comes after it seldom. For a process that is ours: in one that goes on, what was
    garbage by then would stay."""
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
