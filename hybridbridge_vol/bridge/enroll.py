"""Taking a kernel into the store so that the first case finds everything ready."""

from __future__ import annotations

from pathlib import Path

from hybridbridge_vol.bridge.prepare import prepare
from hybridbridge_vol.errors import BootError
from hybridbridge_vol.trust.store import Entry, Progress, Store


def enroll(store: Store, path: Path, progress: Progress | None = None) -> Entry:
    """Boot the kernel in `path`, store it, and prepare the bridge for it. Raises as `Store.add`."""

    def part(first: float, last: float) -> Progress | None:
        return progress and (lambda fraction, text: progress(first + fraction * (last - first), text))

    kernel = store.add(path, part(0.0, 0.8))
    try:
        for boot in kernel.boots():
            prepare(kernel, boot, part(0.8, 1.0))
    except KeyError as error:
        raise BootError(f"{path}: this kernel has no symbol {error}; it cannot be bridged") from None
    return store.entry(kernel)
