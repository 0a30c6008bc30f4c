"""Names of the x86-64 general registers."""

from __future__ import annotations

GENERAL_REGISTERS = (
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
    "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
)  # fmt: skip
"""In the order of their numbers in machine code (SDM volume 2A, 3.1.1.1, table 3-1)."""
