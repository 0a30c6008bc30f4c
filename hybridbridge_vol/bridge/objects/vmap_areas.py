"""The kernel's areas of vmalloc, as /proc/vmallocinfo lists them, but with their addresses, which that file
hashes.

mm/vmalloc.c: one list of all areas up to 6.8, then a tree of them for each of several nodes (Linux 5.10 to
7.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.units import PAGE_SIZE

MAX_NODES = 1024
"""Of trees: one for each CPU, 128 at most."""


class VmapArea(NamedTuple):
    """`size` in bytes, without the guard page; `caller` is the address in the code that asked for it."""

    vaddr: int
    size: int
    caller: int


def vmap_areas(memory: TypedMemory) -> Iterator[VmapArea]:
    """Those that are in use. LookupError, and what following the snapshot's lists may raise."""
    for area in _areas(memory):
        struct = memory.get(area, "vmap_area", "vm")
        if struct:
            start = memory.get(area, "vmap_area", "va_start")
            size = memory.get(area, "vmap_area", "va_end") - start - PAGE_SIZE
            yield VmapArea(start, size, memory.get(struct, "vm_struct", "caller"))


def asked_by(bridge: Bridge, area: VmapArea) -> str:
    """The function of the kernel that asked for an area; empty if it was none."""
    found = bridge.sides.function_at(area.caller - bridge.layout.text_vaddr)
    return found[0] if found else ""


def _areas(memory: TypedMemory) -> Iterator[int]:
    if memory.has_symbol("vmap_area_list"):
        yield from memory.list(memory.ring("vmap_area_list"), "vmap_area", "list")
        return
    nodes, size = memory.word(memory.symbol("vmap_nodes")), memory.types.size("vmap_node")
    count = min(memory.number(memory.symbol("nr_vmap_nodes"), 4), MAX_NODES)
    for node in range(nodes, nodes + count * size, size):
        yield from memory.tree(memory.at(node, "vmap_node", "busy.root"), "vmap_area", "rb_node")
