"""Machine code as text."""

from __future__ import annotations

from itertools import islice

MOST_INSTRUCTIONS = 24
"""Instructions of one place that are shown."""
LONGEST = 15
"""Bytes of an instruction (Intel SDM vol. 2, 2.3.11)."""


def disassembled(code: bytes, vaddr: int, bits: int = 64) -> str:
    """The first instructions of code that lies at an address, one after the other, up to the first bytes
    that are none."""
    import capstone  # 40 ms, and only --disassemble needs it

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32)
    found = islice(engine.disasm(code, vaddr), MOST_INSTRUCTIONS)
    shown = [f"{item.mnemonic} {item.op_str}".strip() for item in found]
    return "; ".join(shown) or "(no instruction)"
