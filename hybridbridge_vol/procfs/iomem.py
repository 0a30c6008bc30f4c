"""/proc/iomem: the physical memory map that the guest's kernel keeps (kernel/resource.c, `iomem_resource`).

It names all memory that the kernel has: what firmware gave it at boot, and what was hot-plugged since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.sources import split_lines

MAX_RESOURCES = 1 << 16
"""A large machine has some thousands; a longer answer is forged."""

RAM = "System RAM"
"""How the names of all resources begin that are memory of the kernel's (drivers add to it: "System RAM
(kmem)", "System RAM (virtio_mem)")."""
CRASH_KERNEL = "Crash kernel"
"""Memory that is kept free for the capture kernel of kdump (kernel/crash_core.c)."""

_LINE = re.compile(rb"( *)([0-9a-f]+)-([0-9a-f]+) : (.+)")


class Resource(NamedTuple):
    """A range of guest-physical addresses, `last_paddr` among them; `depth` is that in the tree."""

    start_paddr: int
    last_paddr: int
    depth: int
    name: str


def parse_iomem(data: bytes) -> list[Resource]:
    """The resources, parents before their children. ParseError if a line is not of this form, or if the
    addresses were kept from the reader, who then sees zeros only."""
    resources = []
    for line in split_lines(data)[:MAX_RESOURCES]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ParseError(f"not a line of /proc/iomem: {line[:80]!r}")
        indent, first, last, name = match.groups()
        resources.append(
            Resource(int(first, 16), int(last, 16), len(indent) // 2, name.decode("utf-8", "surrogateescape"))
        )
    if not any(resource.last_paddr for resource in resources):
        raise ParseError("/proc/iomem has no addresses")
    return resources


def memory_of(resources: Iterable[Resource]) -> list[Resource]:
    """Those that are memory of the kernel's; one below another of them is left out."""
    found: list[Resource] = []
    for resource in resources:
        behind = not found or resource.start_paddr > found[-1].last_paddr
        if behind and resource.name.startswith(RAM) and resource.last_paddr >= resource.start_paddr:
            found.append(resource)
    return found
