"""HybridBridge: ask a memory snapshot by running the kernel's own code in a trusted kernel.

From Python:

    import hybridbridge_vol, pandas

    with hybridbridge_vol.open("dump.raw") as snapshot:
        print(pandas.DataFrame(snapshot.ps(threads=True)))

`help(hybridbridge_vol.api)` tells the rest.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hybridbridge_vol.api import open as open
else:

    def __getattr__(name):
        # The command line imports this package too, and needs nothing of the API.
        if name == "open":
            from hybridbridge_vol.api import open

            return open
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
