"""Where the kernel's modules lie: the modules area, and the room for their trusted segments."""

from __future__ import annotations

MODULES_START = 0xFFFF_FFFF_C000_0000
"""Virtual start of the modules area with CONFIG_RANDOMIZE_BASE (Documentation/arch/x86/x86_64/mm.rst)."""
MODULES_END = 0xFFFF_FFFF_FF00_0000
"""Its end; above lies the fixmap."""
ROOM = 32 << 20
"""Bytes that the trusted segments of the modules in use may have together; the largest ones have two
million."""
