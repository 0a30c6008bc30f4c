"""The pages of the twin, and behind them the trusted segments of modules, as the two machines see them.

SLOW-BRIDGE sees them whole; FAST-BRIDGE sees `int3` where nothing is proven. Both are made when they are
first touched, and again (`renew`) whenever what is proven, or the class of a static reference, has changed
(`learn`).

Positions are offsets from `_text`; modules' segments lie behind the end of the kernel image, each at its
`twin_offset`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.memo import Memo, Proven
from hybridbridge_vol.bridge.modules.relocated_module import TrustedSegment
from hybridbridge_vol.bridge.modules.segment_room import ROOM
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.physical_map import TWIN_PADDR
from hybridbridge_vol.bridge.text.call_hashes import keep_hashes
from hybridbridge_vol.bridge.text.twin_text import TwinText
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, page_up
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.units import PAGE_SIZE


class TwinExtent(NamedTuple):
    """Which part of the kernel image the twin provides, in offsets from `_text`.

    `[0, rodata_end)` without `ro_after_init`, which is the snapshot's data; executable below `text_end`.
    """

    text_end: int
    rodata_end: int
    ro_after_init: range

    @classmethod
    def of(cls, symbols: Symbols, text_link_vaddr: int, rodata_end: int) -> TwinExtent:
        """The extent in whole pages of a kernel whose constants end at offset `rodata_end`."""
        start, end = symbols.get("__start_ro_after_init"), symbols.get("__end_ro_after_init")
        return cls(
            symbols.address("_etext") - text_link_vaddr,
            page_up(rodata_end),
            range(
                0 if start is None else (start - text_link_vaddr) & -PAGE_SIZE,
                0 if end is None else page_up(end - text_link_vaddr),
            ),
        )

    def is_twin(self, offset: int) -> bool:
        """Whether the page at `offset` is the twin's."""
        return offset < self.rodata_end and offset not in self.ro_after_init


def pages_of(ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    """The first position of each page in which one of the ranges lies."""
    for start, end in ranges:
        yield from range(start & -PAGE_SIZE, end, PAGE_SIZE)


class _Learned:
    """What is new of one text; `segment` is None for the kernel's own."""

    def __init__(self, segment: TrustedSegment | None) -> None:
        self.segment = segment
        self.code: list[tuple[int, int]] = []
        self.fields: set[int] = set()


class TwinPages:
    """See the module's text. `proven` is what is proven of the kernel's own text."""

    def __init__(
        self,
        memory: PhysicalMemory,
        text: TwinText,
        extent: TwinExtent,
        proven: Proven,
        modules: SnapshotModules,
        layout: SnapshotLayout,
    ) -> None:
        self.extent = extent
        self._text = text
        self._proven = proven
        self._modules = modules
        self._text_vaddr = layout.text_vaddr
        self._size = page_up(layout.size)
        self._executable: dict[int, int] = {}
        """Pages of code in use: their offsets, and their virtual addresses."""
        self.whole = HostMapping.anonymous(self._size + ROOM)
        """As SLOW-BRIDGE sees it, in the place of what `memory` has at `TWIN_PADDR`."""
        self._memoized = HostMapping.anonymous(self._size + ROOM)
        memory.place(TWIN_PADDR, self._memoized)

    def offset_of(self, vaddr: int) -> int | None:
        """The position of an address of the kernel image or of a module's trusted segment; None elsewhere."""
        offset = vaddr - self._text_vaddr
        if 0 <= offset < self._size:
            return offset
        trusted = self._modules.relocated_at(vaddr)
        return None if trusted is None else trusted.twin_offset_of(vaddr)

    def page(self, offset: int) -> bytes | bytearray:
        """A page as it is whole."""
        if offset < self._size:
            return self._text.page(offset)
        trusted = self._modules.at_offset(offset)
        if trusted is None:
            return bytes(PAGE_SIZE)
        return trusted.segment.content[offset - trusted.twin_offset :][:PAGE_SIZE]

    def enter(self, vaddr: int, offset: int, executable: bool) -> int:
        """Make a page that lies at a virtual address; its guest-physical address."""
        if executable:
            self._executable[offset] = vaddr
        self._fill(offset, executable)
        return TWIN_PADDR + offset

    def _fill(self, offset: int, executable: bool) -> None:
        page = self.page(offset)
        self.whole.view[offset : offset + PAGE_SIZE] = page
        self._memoized.view[offset : offset + PAGE_SIZE] = self._masked(offset, page) if executable else page

    def _masked(self, offset: int, page: bytes | bytearray) -> bytes | bytearray:
        """A page of code as FAST-BRIDGE sees it. Patches need no proof, as they are ours, nor do
        hashes, as they are data."""
        if offset < self._size:
            masked = self._proven.masked(offset, page)
            keep_hashes(masked, page, offset, self._text.hashes)
            self._text.apply_patches(masked, offset)
            return masked
        trusted = self._modules.at_offset(offset)
        if trusted is None:
            return page
        start = offset - trusted.twin_offset
        masked = trusted.proven.masked(start, page)
        keep_hashes(masked, page, start, trusted.module.hashes)
        return masked

    def learn(self, ranges: Iterable[tuple[int, int]], fields: Iterable[int]) -> None:
        """Add proven code and trusted fields to what is known of the text they belong to. `renew` the pages
        they lie in afterwards."""
        texts: dict[int, _Learned] = {}
        for start, end in ranges:
            self._of(texts, start).code.append((start, end))
        for offset in fields:
            self._of(texts, offset).fields.add(offset)
        for new in texts.values():
            if new.segment is None:
                self._proven.add(new.code, new.fields)
                continue
            start = new.segment.twin_offset
            inside = {offset - start for offset in new.fields}
            new.segment.proven.add([(first - start, last - start) for first, last in new.code], inside)
            self._modules.redirect_to_trusted(new.segment, inside)

    def news_in(self, learned: Memo, memo: Memo) -> tuple[list[tuple[int, int]], set[int]]:
        """The proven code and the trusted fields that another memo has and this bridge's `memo` has not: of
        the kernel's own text, and of the modules in use. As positions."""
        pairs = [(0, learned.text, self._proven)]
        for name, part in learned.modules.items():
            own = memo.modules.get(name)
            pairs += [
                (segment.twin_offset, part, own)
                for segment in self._modules.segments
                if segment.executable and segment.proven is own
            ]
        ranges = [
            (at + start, at + end)
            for at, theirs, own in pairs
            for start, end in theirs.ranges()
            if not own.covers(start, end)
        ]
        return ranges, {at + field for at, theirs, own in pairs for field in theirs.trusted - own.trusted}

    def _of(self, texts: dict[int, _Learned], offset: int) -> _Learned:
        segment = None if offset < self._size else self._modules.at_offset(offset)
        return texts.setdefault(0 if segment is None else segment.twin_offset, _Learned(segment))

    def renew(self, offsets: Iterable[int]) -> list[int]:
        """Make the pages of code that hold these positions again, if they are in use; their virtual
        addresses."""
        pages = {offset & -PAGE_SIZE for offset in offsets} & self._executable.keys()
        for page in pages:
            self._fill(page, True)
        return sorted(self._executable[page] for page in pages)
