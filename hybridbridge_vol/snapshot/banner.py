"""Naming an unknown kernel: a scan for banners. Which package one comes from: `kernel_origin`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.units import Progress

_CHUNK = 16 << 20
_OVERLAP = 1024
# With its build number (init/version-timestamp.c): the same text without one is a template in the kernel.
_BANNER = re.compile(rb"Linux version \d+\.\d+[\x21-\x7e]* \([\x20-\x7e]{1,400} #\d+[\x20-\x7e]{1,200}\n")
MAX_BANNERS = 64
"""Different banners counted; package databases and logs in memory hold a few besides the kernel's own."""

KERNEL_SIZE = 64 << 20
"""How far behind the beginning of its text a kernel's version line is looked for; it stands at the beginning
of its read-only data."""

MAX_PLACES = 32
"""Places of one text that are looked at: the kernel's own, its log's, and those of files in memory."""


def scan_banners(image: PhysicalImage, progress: Progress | None = None) -> list[tuple[str, int]]:
    """`(banner, how often)` of what looks like a kernel's version line, the likeliest first.

    Reads the whole image once, in chunks; used only when no stored kernel fits.
    """
    counts: Counter[str] = Counter()
    for _paddr, data in _chunks(image, progress):
        for match in _BANNER.finditer(data):
            if match.start() < _CHUNK and (len(counts) < MAX_BANNERS):
                counts[match[0].decode("latin-1").strip()] += 1
    return _without_rests(counts).most_common()


def _without_rests(counts: Counter[str]) -> Counter[str]:
    """A line that begins as another one is that one, and what its buffer held before."""
    found: Counter[str] = Counter()
    for banner, count in counts.items():
        found[min((other for other in counts if banner.startswith(other)), key=len)] += count
    return found


def banner_behind(image: PhysicalImage, text_paddr: int) -> str | None:
    """The first version line in the kernel image whose text begins at a physical address."""
    for start in range(text_paddr, text_paddr + KERNEL_SIZE, _CHUNK):
        match = _BANNER.search(image.read_padded(start, _CHUNK + _OVERLAP))
        if match is not None:
            return match[0].decode("latin-1").strip()
    return None


def text_places(image: PhysicalImage, text: str) -> Iterator[int]:
    """Physical addresses at which a short text lies, at most `MAX_PLACES`. Reads the whole image."""
    wanted = text.encode("latin-1")
    found = 0
    for paddr, data in _chunks(image, None):
        at = data.find(wanted)
        while 0 <= at < _CHUNK:
            yield paddr + at
            found += 1
            if found == MAX_PLACES:
                return
            at = data.find(wanted, at + 1)


def _chunks(image: PhysicalImage, progress: Progress | None) -> Iterator[tuple[int, bytes]]:
    """The image's memory, `(physical address, bytes)`; a chunk ends with the beginning of the next. Of the
    pages in it a dump may lack many."""
    done = 0
    total = sum(run.size for run in image.stored) or 1
    for run in image.stored:
        for start in range(0, run.size, _CHUNK):
            size = min(_CHUNK + _OVERLAP, run.size - start)
            if image.may_hold(run.paddr + start, size):
                yield run.paddr + start, image.read_padded(run.paddr + start, size)
            done += min(_CHUNK, run.size - start)
            if progress:
                progress(done / total, "looking for a kernel's banner")
