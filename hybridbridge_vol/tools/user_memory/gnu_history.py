"""What was typed at programs that use GNU History (bash, and all that use libreadline), from its own
structures.

`history_list()` returns `the_history`, a NULL-terminated array of pointers to `HIST_ENTRY` (GNU History
Library, "History Storage": `line`, `timestamp`, `data`). It and `history_base` are exported; the variable
that it returns is named by the function's own load.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.tools.user_memory.dynamic_symbols import LoadedFile
from hybridbridge_vol.tools.user_memory.memory_reader import MemoryReader

MAX_ENTRIES = 1 << 20
MAX_LINE = 1 << 20
"""Bytes of one line."""
_TIME_SIZE = 32
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_LOAD_AND_RETURN = re.compile(rb"\x48\x8b\x05(.{4})\xc3", re.DOTALL)
"""mov rax, [rip + disp32]; ret"""


class Entry(NamedTuple):
    """A line, its number as `history` shows it, and when it was entered, in seconds since the epoch. A line
    that cannot be read is the reason."""

    number: int
    seconds: int | None
    line: bytes | str


def history_of(memory: MemoryReader, file: LoadedFile) -> Iterator[Entry] | None:
    """The entries of a process's history, the oldest first; None if the file has no GNU History in it.
    OSError or ValueError if its structures cannot be read."""
    function, base = file.address("history_list"), file.address("history_base")
    if function is None or base is None:
        return None
    code = memory.read(function, 16).removeprefix(_ENDBR64)
    found = _LOAD_AND_RETURN.match(code)
    if found is None:
        raise ValueError(f"history_list() is not of the known form: {code[:12].hex()}")
    behind = function + 16 - len(code) + 7
    variable = behind + int.from_bytes(found[1], "little", signed=True)
    return _entries(memory, memory.word(variable), int.from_bytes(memory.read(base, 4), "little"))


def _entries(memory: MemoryReader, array: int, base: int) -> Iterator[Entry]:
    if not array:
        return
    for index in range(MAX_ENTRIES):
        try:
            pointer = memory.word(array + 8 * index)
        except OSError as error:
            yield Entry(base + index, None, f"the list breaks off: {error.strerror}")
            return
        if not pointer:
            return
        yield _entry(memory, pointer, base + index)
    yield Entry(base + MAX_ENTRIES, None, f"given up after {MAX_ENTRIES:,} entries")


def _entry(memory: MemoryReader, pointer: int, number: int) -> Entry:
    try:
        line, stamp = memory.word(pointer), memory.word(pointer + 8)
        text = memory.string(line, MAX_LINE)
    except OSError as error:
        return Entry(number, None, str(error.strerror))
    try:
        seconds = re.fullmatch(rb"#([0-9]{1,12})", memory.string(stamp, _TIME_SIZE)) if stamp else None
    except OSError:
        seconds = None
    return Entry(number, int(seconds[1]) if seconds else None, text)
