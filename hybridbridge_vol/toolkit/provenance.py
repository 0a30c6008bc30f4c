"""`--provenance`: a tool with one more column: the bytes of the image that each row came from."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.reading import UNREADABLE, in_guest, why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool

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

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return (*self._tool.columns_for(options), PROVENANCE)

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        labels = kernel.answer_labels
        labels.start()
        for row in self._tool.rows(kernel, options):
            cell = str(labels.of(row.sources)) if row.sources else None
            yield Row((*row.cells, cell), row.depth, row.sources)


class CatPieces(Tool):
    """Files of the guest cut where the provenance of their bytes changes."""

    name = "cat"
    columns = (
        Column("START", "int", "offset in the file"),
        Column("LENGTH", "int", "bytes"),
        Column("TEXT", "str", "the bytes"),
        PROVENANCE,
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        path = (Column("PATH", "str", "the file"),) if len(options["path"]) > 1 else ()
        return path + self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        labels = kernel.answer_labels
        labels.start()
        for path in options["path"]:
            head = (path,) if len(options["path"]) > 1 else ()
            try:
                clean = in_guest(path)
                data = kernel.files.read(clean)
            except UNREADABLE as error:
                if not head:
                    raise
                yield Row((*head, *[why(path, error)] * len(self.columns)))
                continue
            for start, end, provenance in labels.pieces(clean):
                yield Row((*head, start, end - start, text(data[start:end]), str(provenance)))
