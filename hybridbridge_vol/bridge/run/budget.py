"""How much processor time calls may take."""

from __future__ import annotations

CALL_SECONDS = 10.0
"""For one call. The longest honest ones (large /proc files of busy machines) take well under a second, smaps
of a process that has a hundred gigabytes in pages of 4 KiB some seconds."""

LEAST_CALL_SECONDS = 2.0
"""What one call may take after several that timed out."""

PROGRAM_SECONDS = 2.0
"""For many small calls together, which take hundredths of a second; they are made again singly."""


class CallBudget:
    """The time for one call: half as long after each call that timed out, but not less than
    `LEAST_CALL_SECONDS`.

    In an image taken while the machine ran, locks are held and references are missing for good, and more than
    one call waits for them.
    """

    def __init__(self) -> None:
        self.seconds = CALL_SECONDS

    def timed_out(self) -> None:
        """A call took more than it may."""
        self.seconds = max(LEAST_CALL_SECONDS, self.seconds / 2)
