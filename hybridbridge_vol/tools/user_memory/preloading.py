"""Libraries that programs are made to load: LD_PRELOAD and LD_AUDIT in environments, /etc/ld.so.preload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source

_VARIABLES = (b"LD_PRELOAD", b"LD_AUDIT")
SYSTEM_WIDE = "etc/ld.so.preload"
MAX_SIZE = 1 << 20
"""Bytes of /etc/ld.so.preload that are read."""


class Preloaded(NamedTuple):
    """A library, and who asks for it."""

    library: str
    asked_by: str
    source: Source


def of_environment(path: str, data: bytes) -> Iterator[Preloaded]:
    """The libraries that an environment asks for (ld.so(8): separated by colons or blanks)."""
    start = 0
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals and name in _VARIABLES:
            for library in filter(None, re.split(rb"[: ]", value)):
                yield Preloaded(text(library), text(name), Source(path, start, start + len(entry)))
        start += len(entry) + 1


def of_file(path: str, data: bytes) -> Iterator[Preloaded]:
    """The libraries that /etc/ld.so.preload lists (glibc, elf/rtld.c `handle_preload_list`,
    `do_preload`: separated by blanks, newlines or colons, `#` begins a comment)."""
    for line in data.split(b"\n"):
        for library in filter(None, re.split(rb"[:\s]", line.partition(b"#")[0])):
            yield Preloaded(text(library), f"/{SYSTEM_WIDE}", Source(path))
