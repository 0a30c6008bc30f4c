"""Xen's `xl dump-core`: an ELF core whose sections, not segments, say where memory lies
(docs/misc/dump-core-format.txt).

`.xen_pages` has the guest's pages one after the other, and `.xen_pfn` the number of each: those are
guest-physical frames, as the guest's own page tables have them. Of a PV guest there is `.xen_p2m` instead;
its page tables have the host's machine frames.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.elf import Section
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, Contents
from hybridbridge_vol.memory_image.runs import RunList
from hybridbridge_vol.units import PAGE_SIZE

_MAX_FRAME = MAX_PADDR // PAGE_SIZE
_CHUNK = 4096
"""Frame numbers that are read, and compared with a straight row, at once."""


def is_xen_core(sections: Sequence[Section]) -> bool:
    """Whether a file with these sections is a Xen core."""
    return any(section.name == b".xen_pages" for section in sections)


def parse_xen_core(source: Source, sections: Sequence[Section]) -> Contents:
    """The contents of a Xen core. ImageError if it is of a PV guest, or damaged."""
    by_name = {section.name: section for section in sections}
    if b".xen_p2m" in by_name:
        raise ImageError(
            f"{source.name}: a core of a Xen PV guest, whose page tables hold the host's machine addresses, "
            "which are not read; crash reads it"
        )
    if b".xen_pfn" not in by_name:
        raise ImageError(f"{source.name}: a damaged Xen core (no section .xen_pfn)")
    pages, frames = by_name[b".xen_pages"], by_name[b".xen_pfn"]
    collected = RunList(min(source.size, pages.offset + pages.size))
    for first in range(0, frames.size // 8, _CHUNK):
        numbers = array("Q", _whole_words(source.read_at(frames.offset + 8 * first, 8 * _CHUNK)))
        numbers = numbers[: frames.size // 8 - first]
        if not numbers or collected.full:
            break
        for at, count in _rows(numbers):
            if numbers[at] + count <= _MAX_FRAME:  # the number of a page without memory is all ones
                offset = pages.offset + (first + at) * PAGE_SIZE
                collected.add(numbers[at] * PAGE_SIZE, count * PAGE_SIZE, offset)
    return Contents("Xen core", collected.runs(), collected.missing())


def _whole_words(data: bytes) -> bytes:
    return data[: len(data) // 8 * 8]


def _rows(numbers: array[int]) -> list[tuple[int, int]]:
    """`(index, count)` of the rows of numbers that follow each other."""
    if numbers[-1] - numbers[0] == len(numbers) - 1 and numbers == array(
        "Q", range(numbers[0], numbers[-1] + 1)
    ):
        return [(0, len(numbers))]
    rows = []
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            rows.append((start, index - start))
            start = index
    return rows
