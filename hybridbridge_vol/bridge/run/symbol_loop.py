"""The kernel's names of many addresses in one run of the emulator.

sprint_symbol() (kernel/kallsyms.c) takes less time than entering the emulator for it. A loop of ours calls it
for one address after the other. As any program it runs on FAST-BRIDGE alone, and is rolled back as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hybridbridge_vol.bridge.run.program import DATA_OFFSET, DATA_SIZE, ProgramMemory, loop_over

FUNCTION = "sprint_symbol"
_RECORD_SIZE = 1024
_RECORD = struct.Struct("<QQq")
"""A record: the function, the address; then the answer, the length of the text, which is the rest: more than
KSYM_SYMBOL_LEN (include/linux/kallsyms.h)."""
MOST_ADDRESSES = 1024
assert MOST_ADDRESSES * _RECORD_SIZE <= DATA_SIZE

_CODE = loop_over(
    _RECORD_SIZE,
    bytes.fromhex(
        "488d7b18"  # lea rdi, [rbx+24]
        "488b7308"  # mov rsi, [rbx+8]
        "ff13"  # call [rbx]
        "48894310"  # mov [rbx+16], rax
    ),
)


def names_of(memory: ProgramMemory, function_vaddr: int, vaddrs: Sequence[int]) -> list[bytes] | None:
    """What sprint_symbol(), which is at `function_vaddr`, prints of each address, `MOST_ADDRESSES` at most.
    None if the program was rolled back."""
    for number, vaddr in enumerate(vaddrs):
        memory.put(DATA_OFFSET + number * _RECORD_SIZE, _RECORD.pack(function_vaddr, vaddr, 0))
    if not vaddrs or not memory.run_code(_CODE, DATA_OFFSET, len(vaddrs), (FUNCTION,)):
        return None if vaddrs else []
    data = memory.get(DATA_OFFSET, len(vaddrs) * _RECORD_SIZE)
    found = []
    for start in range(0, len(data), _RECORD_SIZE):
        size = _RECORD.unpack_from(data, start)[2]
        text = start + _RECORD.size
        found.append(data[text : text + min(max(size, 0), _RECORD_SIZE - _RECORD.size)])
    return found
