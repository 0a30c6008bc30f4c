"""The tables by which the kernel walks stacks through a module's code, sorted as its loader sorts them.

In the file they are in the order of its sections; the kernel searches them by halves (`unwind_module_init`
and `__orc_find`, arch/x86/kernel/unwind_orc.c, since 4.14).
"""

from __future__ import annotations

from array import array
from itertools import pairwise

from hybridbridge_vol.kernel_file.module import ModuleFile

PLACES, ENTRIES = ".orc_unwind_ip", ".orc_unwind"
_WIDTH = 4
_U32 = 0xFFFF_FFFF


def sort_unwind_tables(file: ModuleFile, layout: dict[int, int], content: bytearray) -> None:
    """Sort the tables in a module's constants, `content`, where its sections are as in `layout`. Nothing is
    done if there are none, or if they do not fit each other."""
    places, entries = file.section(PLACES), file.section(ENTRIES)
    if places is None or entries is None or places.number not in layout or entries.number not in layout:
        return
    count = places.size // _WIDTH
    size = entries.size // count if count else 0
    if not size:
        return
    start, first = layout[places.number], layout[entries.number]
    values = array("i", bytes(content[start : start + count * _WIDTH]))
    targets = [
        value + number * _WIDTH for number, value in enumerate(values)
    ]  # each counts from its own place
    rows = [bytes(content[place : place + size]) for place in range(first, first + count * size, size)]
    if all(before < after for before, after in pairwise(targets)):
        return
    # an empty row ends what a section has, and gives way to what begins there (`orc_sort_cmp`)
    order = sorted(range(count), key=lambda number: (targets[number], any(rows[number])))
    fields = (targets[old] - new * _WIDTH & _U32 for new, old in enumerate(order))
    content[start : start + count * _WIDTH] = array("I", fields).tobytes()
    content[first : first + count * size] = b"".join(rows[old] for old in order)
