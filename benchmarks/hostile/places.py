"""What the answers about a good image rest on: the rows of each tool, and the bytes under them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.hostile.reads import WORD, noted_reads
from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.machine.paging import FRAME_MASK
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.tool import Options, Row, Tool
from hybridbridge_vol.units import PAGE_SIZE

TRACED = (
    "arp", "bpf", "credentials", "dmesg", "environ", "free", "ip", "keys", "lsmod", "lsof", "maps", "mounts",
    "netstat", "pidstat", "ps", "route", "ss", "uname", "users", "vmstat",
)  # fmt: skip
"""Tools whose rows are traced to the bytes that they rest on."""
MAX_TABLES = 4096
"""Pages of the kernel's page tables that are changed: those of its own half of the root, near the first."""
_ENTRIES = PAGE_SIZE // 8
_PRESENT, _LARGE = 1, 1 << 7
_OPTIONS: dict[str, dict[str, object]] = {"netstat": {"all": True, "program": True}}

Span = tuple[int, int]
"""Offset in the image, and bytes."""


class KnownRow(NamedTuple):
    """A row's text, what it shows of the image, and the sources of its answer (paths, names of calls)."""

    text: str
    under: tuple[Span, ...]
    sources: tuple[str, ...]


@dataclass
class Places:
    """`rows`: of each tool. What was read, ascending, as offsets in the image divided by 8: `read_for` the
    answer of each source, `read_by` each tool, `opening` before the first.
    `tables`: offsets of pages of page tables. `page_offset_base`: where the image has its memory mapped;
    `text_vaddr` of its kernel. `trusted`: addresses on the trusted side."""

    rows: dict[str, list[KnownRow]] = field(default_factory=dict)
    read_for: dict[str, array[int]] = field(default_factory=dict)
    read_by: dict[str, array[int]] = field(default_factory=dict)
    opening: array[int] = field(default_factory=lambda: array("I"))
    trusted_rows: dict[str, int] = field(default_factory=dict)
    tables: list[int] = field(default_factory=list)
    page_offset_base: int = 0
    text_vaddr: int = 0
    trusted: tuple[int, ...] = ()


def text_of(row: Row) -> str:
    """A row as one string, by which two answers are compared."""
    return repr((row.depth, *row.cells))


def options_of(tool: Tool) -> Options:
    """What the campaign asks a tool."""
    return tool.defaults() | _OPTIONS.get(tool.name, {})


def find_places(
    image: Path, store: Path, names: Sequence[str] = TRACED, others: Sequence[str] = ()
) -> Places:
    """Ask a good image under taint. Of the `others`, too, it is noted what they read; their rows are not
    kept."""
    places = Places()
    with noted_reads() as reads, open_session(image, store, mode=Mode.SLOW) as session:
        session.answer_labels.start()
        reads.watch(session)
        places.opening = _offsets(session, reads.opening)
        for name in names:
            tool = tools.load(name)
            found = places.rows[name] = []
            reads.begin()
            for row in tool.rows(session, options_of(tool)):
                origin = session.answer_labels.of(row.sources) if row.sources else None
                under = () if origin is None else origin.ranges
                places.trusted_rows[name] = places.trusted_rows.get(name, 0) + bool(origin and origin.trusted)
                sources = tuple(dict.fromkeys(source.path for source in row.sources))
                found.append(KnownRow(text_of(row), under, sources))
            places.read_by[name] = _offsets(session, reads.since_begin())
        wanted = {source for rows in places.rows.values() for row in rows for source in row.sources}
        places.read_for = {
            source: _offsets(session, words) for source, words in reads.of_source.items() if source in wanted
        }
        for name in others:
            reads.begin()
            for _row in limited_rows(tools.load(name), session, options_of(tools.load(name))):
                pass
            places.read_by[name] = _offsets(session, reads.since_begin())
        bridge = session.bridge
        places.page_offset_base = bridge.layout.page_offset_base
        places.text_vaddr = bridge.layout.text_vaddr
        home = bridge.home
        places.trusted = (bridge.prepared.proxy_task.task, home("init_task"), home("linux_banner"))
        places.tables = list(_tables(session))
    return places


def _offsets(session: Session, words: Iterable[int]) -> array[int]:
    """Words of physical memory as words of the image file, ascending."""
    image = session.bridge.image
    if all(run.offset == run.paddr for run in image.runs):
        return array("I", sorted(words))
    offsets = (image.offset_of(word * WORD) for word in words)
    return array("I", sorted(offset // WORD for offset in offsets if offset is not None))


def _tables(session: Session) -> list[int]:
    """Offsets of the pages of the kernel's page tables: of the upper half of the root, and what it leads
    to."""
    image, layout = session.bridge.image, session.bridge.layout
    level = [layout.root_paddr]
    found: dict[int, None] = {}
    for depth in range(layout.levels):
        following: dict[int, None] = {}
        for paddr in level:
            offset, data = image.offset_of(paddr), image.read_available(paddr, PAGE_SIZE)
            if offset is None or data is None or len(found) >= MAX_TABLES:
                continue
            found[offset] = None
            first = _ENTRIES // 2 if not depth else 0
            for number in range(first, _ENTRIES):
                entry = int.from_bytes(data[8 * number : 8 * number + 8], "little")
                if entry & _PRESENT and not entry & _LARGE:
                    following[entry & FRAME_MASK] = None
        level = list(following)
        if depth == layout.levels - 2:  # the last level's entries lead to pages
            for paddr in level:
                offset = image.offset_of(paddr)
                if offset is not None and len(found) < MAX_TABLES:
                    found[offset] = None
            break
    return list(found)
