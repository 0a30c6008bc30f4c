"""The ORC tables, by which the kernel unwinds stacks through a module's code, sorted as its loader sorts
them.

In the file they are in the order of its sections; the kernel searches them by bisection (`unwind_module_init`
and `__orc_find`, arch/x86/kernel/unwind_orc.c, since 4.14).
"""

from __future__ import annotations

from array import array

from hybridbridge_vol.kernel_file.module import ModuleFile

ADDRESSES, ENTRIES = ".orc_unwind_ip", ".orc_unwind"
_WIDTH = 4
_U32 = 0xFFFF_FFFF


def sort_unwind_tables(file: ModuleFile, layout: dict[int, int], content: bytearray) -> None:
    """Sort the tables in a module's constants, `content`, where its sections are as in `layout`. Nothing is
    done if there are none, or if their sizes do not agree."""
    addresses, entries = file.section(ADDRESSES), file.section(ENTRIES)
    if addresses is None or entries is None:
        return
    if addresses.number not in layout or entries.number not in layout:
        return
    count = addresses.size // _WIDTH
    size = entries.size // count if count else 0
    if not size:
        return
    start, first = layout[addresses.number], layout[entries.number]
    values = array("i", bytes(content[start : start + count * _WIDTH]))
    # each address is relative to its own field
    targets = [value + number * _WIDTH for number, value in enumerate(values)]
    rows = [bytes(content[row : row + size]) for row in range(first, first + count * size, size)]
    if targets == sorted(set(targets)):
        return
    # an empty row ends the rows of a section, and comes before what begins at its address (`orc_sort_cmp`)
    empty = bytes(size)
    keys = [2 * target + (row != empty) for target, row in zip(targets, rows, strict=True)]
    order = sorted(range(count), key=keys.__getitem__)
    fields = (targets[old] - new * _WIDTH & _U32 for new, old in enumerate(order))
    content[start : start + count * _WIDTH] = array("I", fields).tobytes()
    content[first : first + count * size] = b"".join(rows[old] for old in order)
