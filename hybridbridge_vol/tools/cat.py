"""cat: the content of a file of the guest's /proc or /sys."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, in_guest, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool


class Cat(Tool):
    name = "cat"
    help = "The content of a file of the guest's /proc or /sys"
    notes = (
        "`hb run` writes the bytes as they are (on a terminal control characters are escaped). With --format "
        "json or csv, and in Volatility, each line is a row."
    )
    example = "/proc/1/status"
    options = (Option("path", str, "a file under /proc or /sys", many=True, positional=True),)
    columns = (
        Column("LINE", "int", "line number, from 1"),
        Column("TEXT", "str", "the line, without its newline"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        path = (Column("PATH", "str", "the file"),) if len(options["path"]) > 1 else ()
        return path + self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        paths = options["path"]
        for path in paths:
            head = (path,) if len(paths) > 1 else ()
            try:
                data = kernel.files.read(in_guest(path))
            except UNREADABLE as error:
                if len(paths) == 1:
                    raise
                yield Row((*head, why(path, error), why(path, error)))
                continue
            lines = data.removesuffix(b"\n").split(b"\n") if data else []
            for number, line in enumerate(lines, 1):
                yield Row((*head, number, text(line)))

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The bytes of the files, one after the other, or why one cannot be read."""
        for path in options["path"]:
            try:
                yield kernel.files.read(in_guest(path))
            except UNREADABLE as error:
                yield why(path, error)


TOOL = Cat()
