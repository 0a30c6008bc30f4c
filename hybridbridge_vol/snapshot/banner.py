"""Naming an unknown kernel: a scan for banners. Which package one comes from: `kernel_origin`."""

from __future__ import annotations

import re
from collections import Counter

from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.units import Progress

_CHUNK = 16 << 20
_OVERLAP = 1024
# With its build number (init/version-timestamp.c): the same text without one is a template in the kernel.
_BANNER = re.compile(rb"Linux version \d+\.\d+[\x21-\x7e]* \([\x20-\x7e]{1,400} #\d+[\x20-\x7e]{1,200}\n")
MAX_BANNERS = 64
"""Different banners counted; package databases and logs in memory hold a few besides the kernel's own."""


def scan_banners(image: PhysicalImage, progress: Progress | None = None) -> list[tuple[str, int]]:
    """`(banner, how often)` of what looks like a kernel's version line, the likeliest first.

    Reads the whole image once, in chunks; used only when no stored kernel fits.
    """
    counts: Counter[str] = Counter()
    total = sum(run.size for run in image.runs) or 1
    done = 0
    for run in image.runs:
        for start in range(0, run.size, _CHUNK):
            size = min(_CHUNK + _OVERLAP, run.size - start)
            data = image.read_available(run.paddr + start, size) or b""
            for match in _BANNER.finditer(data):
                if match.start() < _CHUNK and (len(counts) < MAX_BANNERS):
                    counts[match[0].decode("latin-1").strip()] += 1
            done += min(_CHUNK, run.size - start)
            if progress:
                progress(done / total, "looking for a kernel's banner")
    return counts.most_common()
