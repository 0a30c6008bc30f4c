"""Every `struct module` in the kernel's area for modules, whether it is on a list or not.

A module's `mkobj.mod` is the address of the module itself (kernel/module/sysfs.c, `mod_sysfs_init`), so a
page of the area is searched for words that are their own address but for that field's offset. Other
structures point to themselves, too: a `struct module` lies in one of the parts that it names. The memory of a
module that was unloaded, or could not be loaded, is no longer mapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import PAGE_SIZE, U64

_LAYOUTS = ("core_layout", "init_layout")
"""Of `struct module` before 6.4; since then `mem` has one for each kind of memory."""
MAX_SIZE = 1 << 26
"""Bytes of one part of a module; the largest module has 10 MiB."""
_UPPER_BYTES, _UPPER_BYTES_AT = 6, 2
_NAME = re.compile(r"[\w-]{1,55}")
"""As `MODULE_NAME_LEN` allows."""


def module_structs(memory: TypedMemory, pages: Iterable[int]) -> dict[str, int]:
    """The address of the `struct module` of each module that has one in some pages (virtual addresses), by
    name. LookupError if the kernel's types lack a field."""
    own = memory.types.offset("module", "mkobj.mod")
    found: dict[str, int] = {}
    for page in pages:
        try:
            data = memory.read(page, PAGE_SIZE)
        except UnreadableVirtual:
            continue
        for vaddr in _own_addresses(data, page - own & U64):
            try:
                name = memory.name(vaddr, "module", "name")
                is_module = any(start <= vaddr < end for start, end in parts(memory, vaddr))
            except UnreadableVirtual:
                continue
            if is_module and _NAME.fullmatch(name):
                found.setdefault(name.replace("-", "_"), vaddr)
    return found


def _own_addresses(data: bytes, first: int) -> list[int]:
    """The words of a page, ascending, that are `first` and so many bytes as they lie behind its beginning."""
    found = []
    for upper in {first >> 16, first + PAGE_SIZE - 8 >> 16}:
        # six bytes of such a word are the same everywhere in the page, or in each of two parts of it
        pattern = upper.to_bytes(_UPPER_BYTES, "little")
        at = data.find(pattern)
        while at >= 0:
            start = at - _UPPER_BYTES_AT
            if not start % 8 and int.from_bytes(data[start : start + 8], "little") == first + start:
                found.append(first + start)
            at = data.find(pattern, at + 1)
    return sorted(found)


def parts(memory: TypedMemory, vaddr: int) -> list[tuple[int, int]]:
    """Where the parts of a module lie, whose `struct module` is at an address: start and end of each.
    LookupError, UnreadableVirtual."""
    types = memory.types
    if types.has("module", "mem"):
        field, size = types.field("module", "mem"), types.size("module_memory")
        kind = "module_memory"
        places: Iterable[int] = range(
            vaddr + field.offset, vaddr + field.offset + types.bytes_of(field.type), size
        )
    else:
        kind = "module_layout"
        places = [memory.at(vaddr, "module", name) for name in _LAYOUTS]
    found = ((memory.get(at, kind, "base"), memory.get(at, kind, "size")) for at in places)
    return [(start, start + size) for start, size in found if start >> 63 and 0 < size <= MAX_SIZE]
