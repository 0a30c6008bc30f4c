"""Booting a stored kernel once more for a process that has given up writing into the store."""

from __future__ import annotations

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.trust.placement import GUARD_HOLES
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress


def boot_again(
    store: Store,
    kernel: str,
    start_vaddr: int,
    end_vaddr: int,
    levels: int,
    progress: Progress | None = None,
) -> bool:
    """Boot a kernel of the store as `errors.BootNeeded` says; False if that is not possible. Who asks works
    on an image that somebody else may have made: nothing that it says is taken for granted."""
    if levels not in GUARD_HOLES or not 0 <= start_vaddr < end_vaddr < 1 << 64:
        return False
    try:
        store.find(kernel).boot_clear_of(start_vaddr, end_vaddr, progress, levels)
    except HybridBridgeError:
        return False
    return True
