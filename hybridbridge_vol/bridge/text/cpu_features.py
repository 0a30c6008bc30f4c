"""Branches on CPU features: in the twin they go the way they went on the snapshot's CPU.

`static_cpu_has()` (arch/x86/include/asm/cpufeature.h, `_static_cpu_has`) is a branch that alternatives patch
at boot: a `jmp` to one target, or `nop`s in front of the other. Before, it is a jump to a few instructions in
`.altinstr_aux` that test the feature's bit in `boot_cpu_data`; these name everything that is needed: the
byte, the bit, and both targets.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

_JUMP = 0xE9
SITE_SIZE = 5
# testb $mask, byte(%rip) or byte; jnz t_yes; jmp t_no
_TEST = (
    rb"(?s)\xf6(?:\x05(?P<relative>.{4})|\x04\x25(?P<absolute>.{4}))(?P<mask>.)"
    rb"\x0f\x85(?P<yes>.{4})\xe9(?P<no>.{4})"
)
_NEAR_JUMP = rb"\xe9"

Byte = Callable[[int], int | None]
"""The byte at an offset from `_text` in the snapshot; None if it cannot be read."""


class FeatureBranches(NamedTuple):
    """By site, ascending: the offsets from `_text` of the site, of its target with the feature (`yes`) and
    without (`no`), and of the byte that has the feature's bit (`places`); the bit as a mask."""

    sites: array[int]
    yes: array[int]
    no: array[int]
    places: array[int]
    masks: array[int]

    def patches(self, start: int, end: int, byte: Byte) -> Iterator[tuple[int, bytes]]:
        """`(offset, code)` of the sites in `[start, end)`."""
        for index in range(bisect_left(self.sites, start), bisect_left(self.sites, end)):
            value = byte(self.places[index])
            if value is not None:
                target = self.yes[index] if value & self.masks[index] else self.no[index]
                yield self.sites[index], struct.pack("<Bi", _JUMP, target - self.sites[index] - SITE_SIZE)


def read_feature_branches(flat: bytes | bytearray, text_link_vaddr: int, text_end: int) -> FeatureBranches:
    """The branches of a kernel as linked: `flat` begins at `_text`, code ends at offset `text_end`."""
    tests: dict[int, tuple[int, int, int, int]] = {}
    for match in re.compile(_TEST).finditer(flat, text_end):
        place = match.start()
        if match["relative"]:
            byte = place + 7 + _signed(match["relative"])
        else:
            byte = (_signed(match["absolute"]) - text_link_vaddr) & (1 << 32) - 1
        yes, no = match.end("yes") + _signed(match["yes"]), match.end("no") + _signed(match["no"])
        if 0 <= byte < len(flat) and 0 <= yes < text_end and 0 <= no < text_end:
            tests[place] = (yes, no, byte, match["mask"][0])
    found = sorted((site, *tests[target]) for site, target in _jumps(flat, text_end, tests))
    return FeatureBranches(*(array("I", (item[part] for item in found)) for part in range(5)))


def _jumps(
    flat: bytes | bytearray, text_end: int, targets: dict[int, tuple[int, int, int, int]]
) -> Iterator[tuple[int, int]]:
    """`(site, target)` of every `jmp` in the text that leads to one of `targets`."""
    for match in re.compile(_NEAR_JUMP).finditer(flat, 0, text_end - SITE_SIZE + 1):
        site = match.start()
        target = site + SITE_SIZE + _signed(flat[site + 1 : site + SITE_SIZE])
        if target in targets:
            yield site, target


def _signed(field: bytes | bytearray) -> int:
    return int.from_bytes(field, "little", signed=True)
