"""`--provenance`: a tool with one more column: the bytes of the image that each row came from."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.answer_labels import Provenance
from hybridbridge_vol.guest.file_content import MissingRange, Piece, PieceKind
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, in_guest, why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool
from hybridbridge_vol.units import PAGE_SIZE

PROVENANCE = Column(
    "PROVENANCE",
    "str",
    "OFFSET+LENGTH of the image's bytes that the row shows; `trusted`: some are the trusted kernel's own "
    "state; `constant`: they stand in the kernel's code",
)


def with_provenance(tool: Tool) -> Tool:
    """The tool that answers with provenance in the place of `tool`. The session must be in mode `slow`."""
    return CatPieces() if tool.name == "cat" else WithProvenance(tool)


class WithProvenance(Tool):
    """Another tool's rows, each with its provenance."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self.name = tool.name  # type: ignore[misc]
        self.tree_column = tool.tree_column  # type: ignore[misc]
        self.seconds, self.memory = tool.seconds, tool.memory  # type: ignore[misc]

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return (*self._tool.columns_for(options), PROVENANCE)

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        labels = kernel.answer_labels
        labels.start()
        for row in self._tool.rows(kernel, options):
            cell = str(labels.of(row.sources)) if row.sources else None
            yield Row((*row.cells, cell), row.depth, row.sources)


class CatPieces(Tool):
    """Files of the guest cut where the provenance of their bytes changes: those of its own file systems page
    by page."""

    name = "cat"
    columns = (
        Column("START", "int", "offset in the file"),
        Column("LENGTH", "int", "bytes"),
        Column("TEXT", "str", "the bytes"),
        PROVENANCE,
        Column("PADDR", "str", "of a page of the page cache: the guest-physical address of the first byte"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        path = (Column("PATH", "str", "the file"),) if len(options["path"]) > 1 else ()
        return path + self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        kernel.answer_labels.start()
        for path in options["path"]:
            head = (path,) if len(options["path"]) > 1 else ()
            try:
                for cells in _pieces(kernel, in_guest(path)):
                    yield Row((*head, *cells))
            except UNREADABLE as error:
                if not head:
                    raise
                yield Row((*head, *[why(path, error)] * len(self.columns)))


def _pieces(kernel: GuestKernel, path: str) -> Iterator[tuple[Cell, ...]]:
    """The cells of a file's rows, without its path."""
    copied = 0
    for piece in kernel.files.pieces(path):
        if piece.kind is PieceKind.MISSING:
            reason = Unavailable(f"{path}: {MissingRange(piece.offset, piece.size, piece.reason)}")
            yield piece.offset, piece.size, reason, reason, None
        elif piece.kind is PieceKind.HOLE:
            yield piece.offset, piece.size, None, "hole", None
        elif piece.ranges:
            yield from _pages(kernel, piece)
        else:
            for start, end, provenance in kernel.answer_labels.pieces(path, copied, copied + piece.size):
                yield piece.offset + start, end - start, text(piece.data[start:end]), str(provenance), None
            copied += piece.size


def _pages(kernel: GuestKernel, piece: Piece) -> Iterator[tuple[Cell, ...]]:
    for item in piece.ranges:
        for at in range(0, item.size, PAGE_SIZE):
            offset, paddr, size = item.offset + at, item.paddr + at, min(PAGE_SIZE, item.size - at)
            place = kernel.bridge.image.offset_of(paddr)
            origin = Provenance(((place, size),)) if place is not None else Provenance((), ((paddr, size),))
            start = offset - piece.offset
            yield offset, size, text(piece.data[start : start + size]), str(origin), f"{paddr:#x}"
