"""The twin text: the trusted kernel's own bytes, once more, where the snapshot's kernel text was.

A twin page is made when it is first touched: the page of the booted kernel's text or `.rodata`, its
relocation sites moved from the trusted layout to the snapshot's, then the trampolines (a jump home, or a few
instructions of our own) laid over it. Sites that boot-time patching (alternatives, paravirt) has rewritten no
longer hold the expected value; `relocation_sites` leaves them out, once per boot.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hybridbridge_vol.units import PAGE_SIZE, U64

_WIDEST_SITE = 8


@dataclass(frozen=True)
class Sites:
    """Relocation sites as offsets from `_text`, ascending; `step` is their sign and `size` their width in
    bytes."""

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
    `delta`.

    `booted` and `flat` begin at `_text`; `vaddrs` are link-time virtual addresses.
    """
    mask = (1 << (8 * size)) - 1
    kept = array("I")
    for vaddr in vaddrs:
        offset = vaddr - text_link_vaddr
        if not 0 <= offset <= limit - size:
            continue
        expected = (int.from_bytes(flat[offset : offset + size], "little") + delta) & mask
        if int.from_bytes(booted[offset : offset + size], "little") == expected:
            kept.append(offset)
    return array("I", sorted(kept))


@dataclass
class TwinText:
    """Makes twin pages.

    `booted` is the trusted kernel's memory from `_text`; `shift` is the distance from the trusted layout to
    the snapshot's (`K_s - K_t`); `overlays` are `(offset, bytes)` that replace text, not overlapping.
    `trusted` are the offsets of 32-bit fields (displacements, immediates) of static references that reach
    home's object; `at_home` are more of them, as ascending offsets and by how many bytes beside that object
    they reach. `branches(start, end)` gives the branches of a range that the snapshot's kernel had patched
    otherwise than `booted`.
    """

    booted: memoryview
    sites: tuple[Sites, ...]
    shift: int
    overlays: list[tuple[int, bytes]] = field(default_factory=list)
    trusted: set[int] = field(default_factory=set)
    branches: Callable[[int, int], Iterable[tuple[int, bytes]]] = lambda _start, _end: ()
    at_home: tuple[tuple[Sequence[int], int], ...] = ()

    def __post_init__(self) -> None:
        self.overlays.sort()
        self._overlay_offsets = [offset for offset, _code in self.overlays]
        self._longest_overlay = max((len(code) for _offset, code in self.overlays), default=0)

    def overlay(self, offset: int, code: bytes) -> None:
        """Put `code` at `offset` in place of what stands there; only before the page is first touched."""
        self.overlays = [item for item in self.overlays if item[0] != offset] + [(offset, code)]
        self.__post_init__()

    def page(self, offset: int) -> bytearray:
        """The twin's page at `offset` from `_text` (a multiple of the page size)."""
        page = bytearray(self.booted[offset : offset + PAGE_SIZE])
        for sites in self.sites:
            self._move(page, offset, sites)
        for place, code in self.branches(max(0, offset - _WIDEST_SITE), offset + PAGE_SIZE):
            _place(page, place - offset, code)
        for place in self.trusted:
            if offset - _WIDEST_SITE < place < offset + PAGE_SIZE:
                _place(page, place - offset, self._field_at_home(place))
        for places, distance in self.at_home:
            first = bisect_left(places, max(0, offset - _WIDEST_SITE + 1))
            for place in places[first : bisect_left(places, offset + PAGE_SIZE)]:
                _place(page, place - offset, self._field_at_home(place, distance))
        self.cover(page, offset)
        return page

    def _field_at_home(self, place: int, distance: int = 0) -> bytes:
        """The field of a static reference as it must read in the twin to reach `distance` beside home's
        object.

        One with an absolute address is a relocation site and keeps home's bytes; one relative to RIP, which
        counts from the twin's instruction, has to bridge the distance.
        """
        old = int.from_bytes(self.booted[place : place + 4], "little")
        relative = not any(_holds(sites, place) for sites in self.sites)
        return ((old - (self.shift if relative else 0) + distance) & 0xFFFFFFFF).to_bytes(4, "little")

    def _move(self, page: bytearray, start: int, sites: Sites) -> None:
        size, step = sites.size, sites.step * self.shift
        mask = (1 << (8 * size)) - 1
        offsets = sites.offsets
        index = bisect_left(offsets, max(0, start - _WIDEST_SITE + 1))
        while index < len(offsets) and (site := offsets[index]) < start + PAGE_SIZE:
            index += 1
            old = int.from_bytes(self.booted[site : site + size], "little")
            _place(page, site - start, ((old + step) & mask).to_bytes(size, "little"))

    def cover(self, page: bytearray, start: int) -> None:
        """Lay the overlays over a page that begins at offset `start`."""
        index = bisect_left(self._overlay_offsets, max(0, start - self._longest_overlay + 1))
        while index < len(self.overlays) and self._overlay_offsets[index] < start + PAGE_SIZE:
            offset, code = self.overlays[index]
            index += 1
            _place(page, offset - start, code)


def _holds(sites: Sites, place: int) -> bool:
    index = bisect_left(sites.offsets, place)
    return sites.step == 1 and index < len(sites.offsets) and sites.offsets[index] == place


def _place(page: bytearray, at: int, data: bytes) -> None:
    """Store the part of `data` that lies inside the page; `at` may be negative or reach over the end."""
    first, last = max(at, 0), min(at + len(data), len(page))
    if first < last:
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
