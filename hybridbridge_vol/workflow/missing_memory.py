"""Which memory of the machine an image lacks: by its own headers, and by the map that the guest's kernel
kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.memory_image.e820 import e820_entries, system_ram
from hybridbridge_vol.memory_image.physical import MAX_PADDR, PhysicalImage
from hybridbridge_vol.memory_image.ranges import Range, joined, subtracted
from hybridbridge_vol.procfs.iomem import CRASH_KERNEL, RAM, Resource, memory_of, parse_iomem
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.units import PAGE_SIZE, short_size

IOMEM = "/proc/iomem"


class MissingMemory(NamedTuple):
    """A range of guest-physical memory that the file lacks, in bytes, and why, in a few words."""

    paddr: int
    size: int
    why: str

    def __str__(self) -> str:
        return f"{self.paddr:#x}-{self.paddr + self.size - 1:#x} ({short_size(self.size)}): {self.why}"


def missing_by_headers(image: PhysicalImage) -> list[MissingMemory]:
    """What the file itself promises and lacks."""
    return [MissingMemory(paddr, size, image.why_absent(paddr)) for paddr, size in image.missing]


def missing_by_map(session: Session) -> tuple[list[MissingMemory], str | None]:
    """What the guest's kernel calls its memory and the file neither has nor promises, and a note if the
    kernel's map cannot be read. In its place comes the map that firmware gave the kernel, which stands in the
    kernel image (`boot_params`, arch/x86/kernel/setup.c)."""
    note = None
    try:
        resources = parse_iomem(session.files.read(IOMEM))
    except (*UNREADABLE, AttachError) as error:  # /proc of a kernel that another replaced may be overwritten
        resources = _firmwares(session.bridge)
        what = (
            "is compared with the map of the machine's firmware" if resources else "is compared with no map"
        )
        note = f"what the file lacks {what}, for the kernel's own cannot be read: {why(IOMEM, error).reason}"
    image = session.bridge.image
    accounted = joined([*image.ranges, *image.missing])
    reserved = joined(_span(one) for one in resources if one.name == CRASH_KERNEL)
    missing = [
        MissingMemory(start, size, reason)
        for resource in memory_of(resources)
        for start, size, reason in _lacking(resource, accounted, reserved)
    ]
    return missing, note


def _firmwares(bridge: Bridge) -> list[Resource]:
    """The firmware's memory, as far as the kernel uses it (`max_pfn`)."""
    place = bridge.kernel.symbols.get("boot_params")
    data = (
        None
        if place is None
        else bridge.virtual_memory.static(place - bridge.kernel.text_link_vaddr, PAGE_SIZE)
    )
    entries = e820_entries(data or b"") or []
    place = bridge.kernel.symbols.get("max_pfn")
    pages = (
        None
        if place is None
        else bridge.virtual_memory.static_number(place - bridge.kernel.text_link_vaddr, 8)
    )
    end = MAX_PADDR if pages is None else min(MAX_PADDR, pages * PAGE_SIZE)
    ram = [(start, min(size, end - start)) for start, size in system_ram(entries) if start < end]
    return [Resource(start, start + size - 1, 0, RAM) for start, size in ram]


def _lacking(
    resource: Resource, accounted: list[Range], reserved: list[Range]
) -> Iterator[tuple[int, int, str]]:
    name = "" if resource.name == RAM else f" ({resource.name})"
    lacking = subtracted([_span(resource)], accounted)
    kept_free = subtracted(lacking, subtracted(lacking, reserved))
    for start, size in subtracted(lacking, reserved):
        yield start, size, f"the kernel's memory by its own map{name}, not in the file"
    for start, size in kept_free:
        yield start, size, "reserved for the capture kernel of kdump, not in the file"


def _span(resource: Resource) -> Range:
    """Whole pages: what a file cuts off of a page is no memory of the kernel's."""
    start = -(-resource.start_paddr // PAGE_SIZE) * PAGE_SIZE
    end = (resource.last_paddr + 1) // PAGE_SIZE * PAGE_SIZE
    return start, max(0, end - start)
