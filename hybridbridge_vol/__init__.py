"""HybridBridge: analyse a memory snapshot by running the kernel's own code in a trusted kernel."""

from __future__ import annotations

TYPE_CHECKING = False  # the module typing takes longer to load than everything else here
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
    root_of: int | None = None,
    kernel_at: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Snapshot:
    """Open a memory image of Linux: `with hybridbridge_vol.open("dump.raw") as snapshot: snapshot.ps()`.

    Its kernel must be trusted (`hb trust add`), in `store` (None: the user's own). `bridge`: "auto", "slow"
    or "fast"; `ns_of`: answer from inside the namespaces of this process; `root_of`: files as seen from
    the root directory of this process; `kernel_at`: the physical address of one of several kernels in the
    image; `progress(fraction, text)` is called during long work. See `hybridbridge_vol.api.snapshot.Snapshot`
    and `hybridbridge_vol.api.table`.

    Raises HybridBridgeError (`hybridbridge_vol.errors`): one line that names the file and how to go on.
    """
    from hybridbridge_vol.api.snapshot import open_snapshot  # `import hybridbridge_vol` loads no engine

    return open_snapshot(
        image, store, bridge=bridge, ns_of=ns_of, root_of=root_of, kernel_at=kernel_at, progress=progress
    )
