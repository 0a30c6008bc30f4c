"""Modules of the kernel's package that the snapshot had not loaded, added to it by us.

The kernel answers some questions only by a module's code (which sockets there are: `unix_diag` and its like).
If the snapshot did not load it, its trusted file is laid out in a free part of the modules area, as the
module loader would, and its `init_module` registers it with the snapshot's kernel: on copy-on-write pages, as
everything that the twin writes. Its data are the only memory of a module that is neither the snapshot's nor
constant: they have memory of their own (`ADDED_PADDR`), which is rolled back with a failed call.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.bridge.modules.added_room import AddedRoom
from hybridbridge_vol.bridge.modules.locate import Resolve
from hybridbridge_vol.bridge.modules.relocate import BREAKPOINT, Relocator
from hybridbridge_vol.bridge.modules.relocated_module import RelocatedModule, Segment
from hybridbridge_vol.bridge.modules.tables import jump_labels, traps
from hybridbridge_vol.bridge.modules.unwind import sort_unwind_tables
from hybridbridge_vol.elf_headers import SHN_UNDEF
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.machine.memory import page_up

_INIT_TEXT = ".init.text"
_INIT = "init_module"


class AddedModule(NamedTuple):
    """A module laid out by us: its trusted code and constants, its `data` as they are at first, and the
    virtual address of its `init_module` (None if it has none)."""

    module: RelocatedModule
    data: Segment
    init_vaddr: int | None


def lay_out(name: str, file: ModuleFile, room: AddedRoom, resolve: Resolve) -> AddedModule | None:
    """Lay a module's sections out in free room and relocate them; None if there is no room. KernelFileError
    if the file is damaged."""
    text_layout, text_size = file.text_layout()
    init_text = file.section(_INIT_TEXT)
    if init_text is not None:
        # behind the code that is kept: what is proven of that counts also where a snapshot loaded the module
        text_layout = text_layout | {init_text.number: page_up(text_size)}
        text_size = page_up(text_size) + init_text.size
    rodata_layout, rodata_size = file.rodata_layout()
    data_layout, data_size = file.rest_layout((*text_layout, *rodata_layout))
    taken = room.vaddrs(sum(map(page_up, (text_size, rodata_size, data_size))))
    if taken is None:
        return None
    text = Segment(taken.start, bytearray([BREAKPOINT]) * page_up(text_size))
    rodata = Segment(text.vaddrs.stop, bytearray(page_up(rodata_size)))
    data = Segment(rodata.vaddrs.stop, bytearray(page_up(data_size)))
    sections = {
        index: segment.vaddr + offset
        for segment, layout in ((text, text_layout), (rodata, rodata_layout), (data, data_layout))
        for index, offset in layout.items()
    }
    relocator = Relocator(file, sections, resolve)
    for segment, layout in ((text, text_layout), (rodata, rodata_layout), (data, data_layout)):
        relocator.fill(segment, layout, b"")
    sort_unwind_tables(file, rodata_layout, rodata.content)
    labels = jump_labels(file, text, sections, resolve)
    warnings, fix_ups = traps(file, text, sections, resolve)
    module = RelocatedModule(name, file, sections, text, rodata, labels, warnings, fix_ups)
    return AddedModule(module, data, module.symbol_vaddr(_INIT))


def unresolved(file: ModuleFile, resolve: Resolve) -> str | None:
    """The first symbol that a module refers to and that nothing exports; None if there is none."""
    for symbol in file.symbols():
        if symbol.section == SHN_UNDEF and symbol.name and not resolve(symbol.name):
            return symbol.name
    return None
