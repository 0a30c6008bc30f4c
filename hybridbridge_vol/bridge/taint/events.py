"""What the taint engine notices that should not happen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class EventKind(IntEnum):
    """`enum event_kind` of the engine. FORGED and OUTSIDE end the run."""

    FORGED = 1
    """An address that the snapshot determines leads to the trusted side."""
    UNATTRIBUTED = 2
    """An address that does not come from the snapshot leads into it."""
    OUTSIDE = 3
    """Code that is neither home's nor the twin's."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: virtual address of the instruction, guest-physical address that it accessed (0 if none), and
    the label of what led there."""

    kind: EventKind
    vaddr: int
    paddr: int
    label: int
