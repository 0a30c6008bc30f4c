"""The twin text: a second copy of the trusted kernel's bytes, relocated to where the snapshot's kernel is.

A twin page is made when it is first touched: the page of the booted kernel's text or `.rodata`, its
relocation sites moved from the trusted layout to the snapshot's, its branches set as the snapshot has them,
then patches written over it (trampolines, mostly). Sites that boot-time patching (alternatives, paravirt) has
rewritten no longer hold the expected value; `relocation_sites` leaves them out, once per boot.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

from hybridbridge_vol.units import PAGE_SIZE, U64

_WIDEST_SITE = 8
_WORDS = {4: struct.Struct("<I"), 8: struct.Struct("<Q")}
"""By the bytes that a site takes."""
FIELD_SIZE = 4
"""Bytes of the displacement or the immediate of a static reference."""

Patch = tuple[int, bytes]
"""Code, and the offset from `_text` at which it stands in the place of what was there."""


class Sites(NamedTuple):
    """Relocation sites as ascending offsets from `_text`; `step` is their sign, `size` the width in bytes."""

    offsets: Sequence[int]
    step: int
    size: int


def relocation_sites(
    booted: memoryview,
    flat: bytes | bytearray,
    vaddrs: Sequence[int],
    text_link_vaddr: int,
    limit: int,
    delta: int,
    size: int,
) -> array[int]:
    """Offsets from `_text` below `limit` whose value in `booted` is the link-time value of `flat` plus
    `delta`, ascending.

    `booted` and `flat` begin at `_text`; `vaddrs` are link-time virtual addresses.
    """
    mask = (1 << (8 * size)) - 1
    kept = []
    for vaddr in vaddrs:
        offset = vaddr - text_link_vaddr
        if not 0 <= offset <= limit - size:
            continue
        expected = (int.from_bytes(flat[offset : offset + size], "little") + delta) & mask
        if int.from_bytes(booted[offset : offset + size], "little") == expected:
            kept.append(offset)
    return array("I", sorted(kept))


class Words(NamedTuple):
    """Numbers by ascending offsets from `_text`, with the bytes that each takes: columns of one length."""

    offsets: array[int]
    sizes: array[int]
    values: array[int]

    @classmethod
    def none(cls) -> Self:
        """Columns without a row."""
        return cls(array("I"), array("B"), array("Q"))

    def between(self, start: int, stop: int) -> Iterator[Patch]:
        """Those in `[start, stop)`."""
        first, last = bisect_left(self.offsets, start), bisect_left(self.offsets, stop)
        for index in range(first, last):
            yield self.offsets[index], self.values[index].to_bytes(self.sizes[index], "little")


def changed_words(booted: memoryview, flat: bytes | bytearray, expected: Iterable[Patch]) -> Words:
    """What `flat` has at those offsets where `booted` holds what is expected."""
    found = Words.none()
    for offset, code in sorted(expected):
        end = offset + len(code)
        if booted[offset:end] == code:
            found.offsets.append(offset)
            found.sizes.append(len(code))
            found.values.append(int.from_bytes(flat[offset:end], "little"))
    return found


class HomeFields(NamedTuple):
    """Ascending offsets of 32-bit fields of static references that must point `distance` bytes past home's
    object."""

    offsets: Sequence[int]
    distance: int


class TrustedFields(Protocol):
    """The static references whose class is *trusted*, as they are known at the moment of asking."""

    def trusted_in(self, start: int, stop: int) -> Iterable[int]:
        """Offsets in `[start, stop)` of 32-bit fields that must reach home's object."""


class BranchState(Protocol):
    """How the snapshot's kernel had patched the branches of its text."""

    def patches(self, start: int, stop: int) -> Iterable[Patch]:
        """Of the branches in `[start, stop)` those that stand otherwise than in the trusted kernel."""


class Trampolines(Protocol):
    """Patches that stand in the place of functions, each made when it is asked for."""

    @property
    def longest(self) -> int:
        """Bytes that one takes at most."""

    def patches(self, start: int, stop: int) -> Iterable[Patch]:
        """Those that begin in `[start, stop)`."""


class _NothingKnown:
    longest = 0

    def trusted_in(self, _start: int, _stop: int) -> Iterable[int]:
        return ()

    def patches(self, _start: int, _stop: int) -> Iterable[Patch]:
        return ()


_NOTHING_KNOWN = _NothingKnown()


@dataclass
class TwinText:
    """Makes twin pages.

    `booted` is the trusted kernel's memory from `_text`; `shift` is the distance from the trusted layout to
    the snapshot's (`K_s - K_t`). `patches` and `trampolines` do not overlap; of two at one offset the later
    counts, and of a patch and a trampoline the patch. `trusted`, `branches` and `trampolines` are asked anew
    for each page that is made; `at_home` are more fields that reach home;
    `hashes` says where those in front of functions are (see call_hashes.py); `restored` are words that
    `booted` has for itself only.
    """

    booted: memoryview
    sites: tuple[Sites, ...]
    shift: int
    patches: Sequence[Patch] = ()
    trusted: TrustedFields = _NOTHING_KNOWN
    branches: BranchState = _NOTHING_KNOWN
    at_home: tuple[HomeFields, ...] = ()
    hashes: Sequence[int] = ()
    restored: Words = field(default_factory=Words.none)
    trampolines: Trampolines = _NOTHING_KNOWN

    def __post_init__(self) -> None:
        self._patches = sorted(dict(self.patches).items())
        self._patch_offsets = [offset for offset, _code in self._patches]
        longest = max((len(code) for _offset, code in self._patches), default=0)
        self._longest_patch = max(longest, self.trampolines.longest)

    def page(self, offset: int) -> bytearray:
        """The twin's page at `offset` from `_text` (a multiple of the page size)."""
        page = bytearray(self.booted[offset : offset + PAGE_SIZE])
        first, end = max(0, offset - _WIDEST_SITE + 1), offset + PAGE_SIZE
        for place, code in self.restored.between(first, end):
            _store(page, place - offset, code)
        for sites in self.sites:
            self._relocate(page, offset, sites)
        for place, code in self.branches.patches(first, end):
            _store(page, place - offset, code)
        for place in self.trusted.trusted_in(first, end):
            _store(page, place - offset, self._field_at_home(place))
        for offsets, distance in self.at_home:
            for place in offsets[bisect_left(offsets, first) : bisect_left(offsets, end)]:
                _store(page, place - offset, self._field_at_home(place, distance))
        self.apply_patches(page, offset)
        return page

    def _field_at_home(self, offset: int, distance: int = 0) -> bytes:
        """The field of a static reference as it must read in the twin to reach `distance` beside home's
        object.

        A field with an absolute address is a relocation site and keeps home's bytes; one relative to RIP,
        which counts from the twin's instruction, has to bridge the distance.
        """
        old = int.from_bytes(self.booted[offset : offset + FIELD_SIZE], "little")
        relative = not any(_holds(sites, offset) for sites in self.sites)
        new = old - (self.shift if relative else 0) + distance
        return (new & 0xFFFFFFFF).to_bytes(FIELD_SIZE, "little")

    def _relocate(self, page: bytearray, start: int, sites: Sites) -> None:
        size, step = sites.size, sites.step * self.shift
        mask, word = (1 << (8 * size)) - 1, _WORDS[size]
        offsets, booted, last = sites.offsets, self.booted, PAGE_SIZE - size
        index = bisect_left(offsets, max(0, start - _WIDEST_SITE + 1))
        for site in offsets[index : bisect_left(offsets, start + PAGE_SIZE, index)]:
            (old,) = word.unpack_from(booted, site)
            new, at = (old + step) & mask, site - start
            if 0 <= at <= last:
                word.pack_into(page, at, new)
            else:  # across the edge of the page
                _store(page, at, word.pack(new))

    def apply_patches(self, page: bytearray, start: int) -> None:
        """Write the patches over a page that begins at offset `start`."""
        first, end = max(0, start - self._longest_patch + 1), start + PAGE_SIZE
        found = dict(self.trampolines.patches(first, end))
        offsets = self._patch_offsets
        found.update(self._patches[bisect_left(offsets, first) : bisect_left(offsets, end)])
        for offset, code in found.items():
            _store(page, offset - start, code)


def _holds(sites: Sites, offset: int) -> bool:
    index = bisect_left(sites.offsets, offset)
    return sites.step == 1 and index < len(sites.offsets) and sites.offsets[index] == offset


def _store(page: bytearray, at: int, data: bytes) -> None:
    """Store the part of `data` that lies inside the page; `at` may be negative or reach over the end."""
    end = at + len(data)
    if at >= 0 and end <= len(page):
        page[at:end] = data
    elif at < len(page) and end > 0:
        first, last = max(at, 0), min(end, len(page))
        page[first:last] = data[first - at : last - at]


def jump(from_vaddr: int, to_vaddr: int) -> bytes:
    """`jmp rel32` placed at `from_vaddr` (SDM volume 2A, JMP E9)."""
    return b"\xe9" + ((to_vaddr - from_vaddr - 5) & 0xFFFFFFFF).to_bytes(4, "little")


def returning(value: int) -> bytes:
    """Instructions that return the 32-bit `value`: `mov eax, imm32; ret`."""
    return b"\xb8" + (value & 0xFFFFFFFF).to_bytes(4, "little") + b"\xc3"


def returning64(value: int) -> bytes:
    """Instructions that return the 64-bit `value`: `movabs rax, imm64; ret`."""
    return b"\x48\xb8" + (value & U64).to_bytes(8, "little") + b"\xc3"
