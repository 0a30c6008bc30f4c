"""What spreads the work of a batch: over processes of this machine, or over others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from hybridbridge_vol.lab.batch.examine import Examination, Request

Step = Callable[[str, str], None]
"""Called with an image's id and what is being done on it ("opening", a tool's name)."""


class Engine(Protocol):
    """Runs examinations somewhere. Every request that was submitted is answered once, unless `cancel` is
    called."""

    def submit(self, request: Request) -> None:
        """Take on one image; may be called while `finished` is being iterated."""

    def finished(self) -> Iterator[Examination]:
        """Examinations as they end, in any order, until none is outstanding. An image that went wrong is one
        too.

        The tables that they name lie on this machine, in the request's staging folder or another of that file
        system.
        """

    def cancel(self) -> None:
        """End everything under way at once; what is not finished is thrown away."""

    def close(self) -> None:
        """Let the workers go, at most after a second or two."""
