"""Machine code in tests: bytes beside the assembly that they stand for, which is checked."""

from __future__ import annotations

import capstone


def assembled(listing: str) -> bytes:
    """The bytes of a listing with one instruction a line: `8a06 mov al, byte ptr [rsi]`.

    The text must be what the bytes are, as if the instruction stood at address 0.
    """
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    code = b""
    for line in filter(None, map(str.strip, listing.splitlines())):
        digits, text = line.split(maxsplit=1)
        one = bytes.fromhex(digits)
        (insn,) = disassembler.disasm(one, 0)
        assert (insn.size, f"{insn.mnemonic} {insn.op_str}".strip()) == (len(one), text), line
        code += one
    return code
