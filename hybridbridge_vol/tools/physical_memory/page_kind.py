"""What the kernel uses a physical page for, by its own word: /proc/kpageflags (fs/proc/page.c;
include/uapi/linux/kernel-page-flags.h)."""

from __future__ import annotations

import struct

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

_NAMES = (
    "locked", "error", "referenced", "uptodate", "dirty", "lru", "active", "slab", "writeback", "reclaim",
    "buddy", "mmap", "anon", "swapcache", "swapbacked", "compound_head", "compound_tail", "huge",
    "unevictable", "hwpoison", "nopage", "ksm", "thp", "offline", "zero_page", "idle", "pgtable",
)  # fmt: skip
_PATH = "/proc/kpageflags"
_FREE, _SLAB, _TABLES, _ANONYMOUS, _FILE, _NOTHING, _ZERO = 10, 7, 26, 12, 5, 20, 24


def flags_of(files: Files, frame: int) -> int | Unavailable:
    """The word of a physical page."""
    try:
        data = files.read_at(_PATH, frame * 8, 8)
    except UNREADABLE as error:
        return why(_PATH, error)
    return struct.unpack("<Q", data)[0] if len(data) == 8 else Unavailable(f"{_PATH}: nothing about it")


def kind_of(flags: int | Unavailable) -> str | Unavailable:
    """free, slab, page table, anonymous (of no process that is known), file, none, kernel."""
    if isinstance(flags, Unavailable):
        return flags
    kinds = (
        (_NOTHING, "none"), (_FREE, "free"), (_SLAB, "slab"), (_TABLES, "page table"), (_ZERO, "zero page"),
        (_ANONYMOUS, "anonymous"), (_FILE, "file"),
    )  # fmt: skip
    return next((name for bit, name in kinds if flags >> bit & 1), "kernel")


def in_words(flags: int) -> str:
    """The names of the flags, as the kernel's header has them."""
    return " ".join(name for bit, name in enumerate(_NAMES) if flags >> bit & 1)
