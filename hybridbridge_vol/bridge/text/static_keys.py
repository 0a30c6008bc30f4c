"""Static keys: the twin's branches are set by the snapshot's keys, not as the trusted kernel's boot left
them.

A static branch is a `jmp` or a `nop` in the text, patched whenever its key changes (kernel/jump_label.c). The
twin is the trusted kernel's text, so each site is patched by the state of the key in the snapshot's memory.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hybridbridge_vol.kernel_file.jump_entries import jump_entries
from hybridbridge_vol.units import START_KERNEL_MAP

ENTRY_SIZE = 16  # struct jump_entry, include/linux/jump_label.h: two 32-bit and one 64-bit distance
BRANCH = 1  # the lowest bit of the distance to the key: the branch is likely
_JUMPS, _SHORT = 2, 4
_NOPS = {5: b"\x0f\x1f\x44\x00\x00", 2: b"\x66\x90"}  # x86_nops, arch/x86/include/asm/nops.h
_JUMP_NEAR, _JUMP_SHORT = 0xE9, 0xEB

KeyState = Callable[[int], int | None]
"""`static_key.enabled` of the key at an offset from `_text`, in the snapshot; None if it cannot be read."""


class JumpLabels(NamedTuple):
    """Sites in ascending order: offsets from `_text` of code, target and key; `flags` per site: likely, jumps
    in the trusted kernel, short form."""

    codes: array[int]
    targets: array[int]
    keys: array[int]
    flags: array[int]

    def patches(self, start: int, end: int, state: KeyState) -> Iterator[tuple[int, bytes]]:
        """`(offset, code)` of the sites in `[start, end)` that must change for the snapshot's keys."""
        for index in range(bisect_left(self.codes, start), bisect_left(self.codes, end)):
            enabled = state(self.keys[index])
            if enabled is None:
                continue
            flags = self.flags[index]
            jumps = (enabled > 0) != bool(flags & BRANCH)
            if jumps != bool(flags & _JUMPS):
                yield self.codes[index], self._code(index, jumps)

    def _code(self, index: int, jumps: bool) -> bytes:
        size = 2 if self.flags[index] & _SHORT else 5
        if not jumps:
            return _NOPS[size]
        distance = self.targets[index] - self.codes[index] - size
        return (
            struct.pack("<Bb", _JUMP_SHORT, distance)
            if size == 2
            else struct.pack("<Bi", _JUMP_NEAR, distance)
        )


def site_flags(code: bytes, distance: int) -> int | None:
    """Flags of a site by its code, with a target `distance` bytes away: whether it jumps, and whether in the
    short form; None if it is neither a jump nor the `nop` in the place of one."""
    if code[0] == _JUMP_NEAR:
        return _JUMPS
    if code == _NOPS[5]:
        return 0
    if code[0] != _JUMP_SHORT and code[:2] != _NOPS[2] or not -128 <= distance - 2 <= 127:
        return None
    return _SHORT | (_JUMPS if code[0] == _JUMP_SHORT else 0)


def read_jump_labels(
    booted: memoryview | bytes, start: int, stop: int, text_end: int, text_vaddr: int = START_KERNEL_MAP
) -> JumpLabels:
    """The table at offsets `[start, stop)` of a booted kernel's memory, which begins at `_text`, where the
    kernel booted at `text_vaddr`.

    Sites that hold neither of the two instructions (initialisation code that is gone) are left out, as are
    keys outside of the kernel image.
    """
    found = []
    for site, goal, owner, key_flags in jump_entries(booted, start, stop, text_vaddr):
        if not (0 <= site < text_end - 5 and 0 <= goal < text_end and 0 <= owner < len(booted) - 4):
            continue
        flags = site_flags(bytes(booted[site : site + 5]), goal - site)
        if flags is not None:
            found.append((site, goal, owner, flags | key_flags & BRANCH))
    found.sort()
    return JumpLabels(
        array("I", (item[0] for item in found)),
        array("I", (item[1] for item in found)),
        array("I", (item[2] for item in found)),
        array("I", (item[3] for item in found)),
    )
