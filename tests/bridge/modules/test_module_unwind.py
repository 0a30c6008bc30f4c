"""Tables of the unwinder in modules: in the order in which the guest's kernel put them, or stack walks go
astray."""

from __future__ import annotations

import struct

from generations import Lab
from guest_modules import code_of, loaded

from hybridbridge_vol.bridge.modules.relocated_module import RelocatedModule
from hybridbridge_vol.bridge.modules.unwind import ADDRESSES, ENTRIES


def rows(module: RelocatedModule, content: bytes | bytearray) -> list[tuple[int, bytes]]:
    """`(virtual address, entry)` of the code that stays loaded, as the module's constants in `content` have
    them."""
    addresses, entries = module.file.section(ADDRESSES), module.file.section(ENTRIES)
    layout, _size = module.file.rodata_layout()
    if addresses is None or entries is None or module.rodata is None:
        return []
    count = addresses.size // 4
    size = entries.size // count
    start, first = layout[addresses.number], layout[entries.number]
    code = range(module.text.vaddr, module.text.vaddr + module.file.text_layout()[1] + 1)
    found = []
    for number, (value,) in enumerate(struct.iter_unpack("<i", content[start : start + 4 * count])):
        vaddr = module.rodata.vaddr + start + 4 * number + value
        if vaddr in code:
            found.append((vaddr, bytes(content[first + size * number :][:size])))
    return found


def test_the_tables_are_in_the_order_of_the_guests_kernel(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    compared = 0
    for name, _vaddr in loaded(session):
        module = code_of(session, name).module
        if module.rodata is None:
            continue
        ours = rows(module, module.rodata.content)
        assert ours == rows(
            module,
            session.bridge.space.modules.read(module.rodata.vaddr, len(module.rodata.content)),
        )
        assert [vaddr for vaddr, _entry in ours] == sorted(vaddr for vaddr, _entry in ours)
        compared += len(ours)
    assert compared > 10_000
