"""HybridBridge: ask a memory snapshot by running the kernel's own code in a trusted kernel."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hybridbridge_vol.api.snapshot import Snapshot

__version__ = "0.1.0"


def open(
    image: str | Path,
    store: str | Path | None = None,
    *,
    bridge: str = "auto",
    ns_of: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Snapshot:
    """Open a memory image of Linux: `with hybridbridge_vol.open("dump.raw") as snapshot: snapshot.ps()`.

    Its kernel must have been trusted once (`hb trust add`), in `store` or in the user's. `bridge` is auto,
    slow or fast; `ns_of` a process from inside whose namespaces to look; `progress(fraction, text)` is called
    while it takes long. See `hybridbridge_vol.api.snapshot.Snapshot` and `hybridbridge_vol.api.table`. Raises
    HybridBridgeError (`hybridbridge_vol.errors`), whose text is one line that names the file and the way out.
    """
    from hybridbridge_vol.api.snapshot import open_snapshot

    return open_snapshot(image, store, bridge=bridge, ns_of=ns_of, progress=progress)
