"""Preparing the bridge for one booted kernel: taken from the store, or derived and put there."""

from __future__ import annotations

import contextlib

from hybridbridge_vol.bridge.text import prepared_file
from hybridbridge_vol.bridge.text.policy import policy_digest
from hybridbridge_vol.bridge.text.prepared import Prepared
from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel
from hybridbridge_vol.units import Progress


def prepare(kernel: StoredKernel, boot: Boot, progress: Progress | None = None) -> Prepared:
    """The stored preparation of `boot` for the policy as shipped, made and stored if there is none.

    KeyError names a symbol that the kernel lacks; BootError if it is not laid out as expected.
    """
    path = boot.folder / f"prepared-{prepared_file.FORMAT}-{policy_digest()}"
    with contextlib.suppress(OSError, ValueError):
        return prepared_file.parse(path.read_bytes())
    if progress:
        progress(0.0, "preparing the twin")
    from hybridbridge_vol.bridge.text.derive import derive  # 4 ms, and nearly always it is stored

    prepared = derive(kernel, boot)
    with contextlib.suppress(OSError):  # a read-only store works, only slower
        files.write_atomically(path, prepared_file.dump(prepared))
    return prepared


def load_or_error(kernel: StoredKernel, boot: Boot) -> Prepared:
    """As `prepare`, but StoreError, which names the kernel, if it lacks a symbol."""
    try:
        return prepare(kernel, boot)
    except KeyError as error:
        raise StoreError(f"{kernel.name}: this kernel has no symbol {error}; it cannot be bridged") from None
