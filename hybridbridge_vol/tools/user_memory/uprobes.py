"""Where the kernel itself puts breakpoints into programs: its tree of uprobes (kernel/events/uprobes.c). BPF
programs and perf trace functions of libraries so, in every process that has them mapped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory

_MINOR_BITS = 20
"""MINORBITS, include/linux/kdev_t.h."""


class Breakpoint(NamedTuple):
    """A place in a file: its device and inode, and bytes from its beginning."""

    major: int
    minor: int
    inode: int
    offset: int


def uprobes(kernel: GuestKernel) -> frozenset[Breakpoint]:
    """All of them, as far as they can be had: none of a kernel without type information."""
    from hybridbridge_vol.bridge.objects.list_ends import Broken  # few images need it
    from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory  # few images need it

    found: set[Breakpoint] = set()
    try:
        for place in _places(TypedMemory(kernel.bridge)):
            found.add(place)
    except (HybridBridgeError, LookupError, *Broken):
        pass
    return frozenset(found)


def _places(memory: TypedMemory) -> Iterator[Breakpoint]:
    for probe in memory.tree(memory.symbol("uprobes_tree"), "uprobe", "rb_node"):
        inode = memory.get(probe, "uprobe", "inode")
        device = memory.get(memory.get(inode, "inode", "i_sb"), "super_block", "s_dev")
        yield Breakpoint(
            device >> _MINOR_BITS, device & (1 << _MINOR_BITS) - 1,
            memory.get(inode, "inode", "i_ino"), memory.get(probe, "uprobe", "offset"),
        )  # fmt: skip
