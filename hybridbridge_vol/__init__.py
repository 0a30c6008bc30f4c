"""HybridBridge: ask a memory snapshot by running the kernel's own code in a trusted kernel."""

__version__ = "0.1.0"
