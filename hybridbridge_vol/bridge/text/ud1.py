"""The undefined instructions that stand for a WARN: `ud2`, and since 6.19 `ud1` for one with a message
(arch/x86/include/asm/bug.h).

The operands of a `ud1` say where the message is; they are never executed, but are part of the instruction.
"""

from __future__ import annotations

UD2 = b"\x0f\x0b"
BUGFLAG_WARNING = 1
"""In the flags of an entry of `__bug_table`: a WARN, not a BUG (include/asm-generic/bug.h)."""

_PREFIXES = frozenset((0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65))
_OPCODE = b"\x0f\xb9"


def ud1_size(code: bytes) -> int:
    """Length in bytes of the `ud1` that `code` begins with; 0 if it begins with another instruction (SDM
    volume 2A, 2.1)."""
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    if at < len(code) and code[at] & 0xF0 == 0x40:  # REX
        at += 1
    if code[at : at + 2] != _OPCODE or at + 3 > len(code):
        return 0
    mode, operand = code[at + 2] >> 6, code[at + 2] & 7
    at += 3
    if mode == 3:
        return at
    base = operand
    if operand == 4:  # SIB
        if at >= len(code):
            return 0
        base = code[at] & 7
        at += 1
    displacement = {0: 4 if base == 5 else 0, 1: 1, 2: 4}[mode]
    return at + displacement if at + displacement <= len(code) else 0
