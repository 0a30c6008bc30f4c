"""The order in which the images of a batch are examined.

The first image of each kernel goes alone before the others of that kernel: what SLOW-BRIDGE proves on it need
not be proven again on the others. Different kernels do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hybridbridge_vol.lab.batch.dataset import Record
from hybridbridge_vol.lab.batch.request import Request


class Schedule:
    """Which requests may start. `trained`: kernels of which an image has been examined before."""

    def __init__(
        self, requests_by_kernel: Mapping[str, Sequence[Request]], trained: Iterable[str | None]
    ) -> None:
        self._trained = set(trained)
        self._waiting: dict[str, tuple[str, Sequence[Request]]] = {}
        """The kernel and the requests that wait for the image of this id."""
        self._first = [
            request
            for kernel, requests in requests_by_kernel.items()
            for request in self._startable(kernel, requests)
        ]

    def first(self) -> Sequence[Request]:
        """The requests that may start at once."""
        return self._first

    def after(self, record: Record) -> Sequence[Request]:
        """The requests that may start because this image has been examined. If it failed, the next image of
        its kernel goes alone."""
        kernel, requests = self._waiting.pop(record.id, ("", ()))
        if record.status != "failed":
            self._trained.add(kernel)
        return self._startable(kernel, requests)

    def _startable(self, kernel: str, requests: Sequence[Request]) -> Sequence[Request]:
        if kernel in self._trained or len(requests) < 2:
            return requests
        alone, *rest = requests
        self._waiting[alone.id] = kernel, rest
        return [alone]
