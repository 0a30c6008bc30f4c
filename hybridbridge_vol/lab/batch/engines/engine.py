"""What distributes the work of a batch: over processes of this machine, or over other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from hybridbridge_vol.lab.batch.assembly import Examination
from hybridbridge_vol.lab.batch.request import Request


class ImageStep(NamedTuple):
    """Work on a step of an image begins: a tool's name, or one of the steps of `events`."""

    image: str
    step: str


ReportStep = Callable[[str, str], None]
"""Called with the fields of an `ImageStep`, in the thread that iterates `Engine.finished`."""


class Engine(Protocol):
    """Runs examinations somewhere. Every request that was submitted is answered once, unless `cancel` is
    called."""

    def submit(self, request: Request) -> None:
        """Accept one image; may be called while `finished` is being iterated."""

    def finished(self) -> Iterator[Examination]:
        """Examinations as they end, in any order, until none is outstanding. An image that could not be
        examined is one too.

        The tables that they name lie on this machine, in the request's staging directory or elsewhere on that
        file system.
        """

    def cancel(self) -> None:
        """End everything under way at once; what is not finished is discarded."""

    def close(self) -> None:
        """Release the workers, within a second or two."""
