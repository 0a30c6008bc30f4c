"""Calls into the kernel: SLOW-BRIDGE, FAST-BRIDGE with fallback, rollback."""
