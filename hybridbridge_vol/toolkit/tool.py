"""What a tool is: one description, from which `hb run` and the Volatility plugin both make their front.

A tool says its options and columns as data and yields rows; it knows neither argparse nor Volatility nor how
a table is drawn. A cell that could not be read is an `Unavailable` with the reason, so that no row is dropped
in silence and no guess is shown as an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from errno import EINVAL
from posixpath import normpath
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Kind, Unavailable


class Row(NamedTuple):
    """One line of the answer; `depth` > 0 makes it a child of the nearest earlier row of a smaller depth.
    `sources` are the bytes of the guest's answers that its cells show."""

    cells: tuple[Cell, ...]
    depth: int = 0
    sources: tuple[Source, ...] = ()


class Column(NamedTuple):
    name: str
    kind: Kind
    help: str
    left: bool | None = None
    """Aligned left; None: as its kind is (str left, the rest right)."""


class Option(NamedTuple):
    """One option of a tool. `type` is bool (a flag), int or str; `many` makes the value a tuple of them.

    A `positional` option is an argument on `hb run`'s command line and a required `--name` in Volatility,
    which has no positional arguments.
    """

    name: str
    type: type[bool | int | str]
    help: str
    many: bool = False
    positional: bool = False
    short: str = ""
    """One letter, by which `hb run` knows the option too (`-t`); letters of flags can be joined
    (`-tulpan`)."""
    examples: tuple[str, ...] = ()
    """Of an option that changes the columns: values that between them show all there can be."""

    @property
    def default(self) -> Any:
        if self.many:
            return ()
        return False if self.type is bool else None


Options = Mapping[str, Any]
"""A tool's options by name, each present; bool, int | None, str | None or a tuple."""


class Tool:
    """Base of all tools. A subclass fills in the class attributes and `rows`; its module exports it as
    `TOOL`."""

    name: ClassVar[str]
    help: ClassVar[str]
    """One line, no full stop."""
    notes: ClassVar[str] = ""
    """What else a user should know: where it differs from the tool of that name, what it cannot know."""
    example: ClassVar[str] = ""
    """Arguments that show the tool at its best, as typed after its name."""
    options: ClassVar[tuple[Option, ...]] = ()
    columns: ClassVar[tuple[Column, ...]]
    runs_kernel: ClassVar[bool] = True
    """Whether code of the guest's kernel makes the answer: training has nothing to learn from one where it
    does not."""
    tree_column: ClassVar[str | None] = None
    """The column whose text is indented to show a row's depth where a table is drawn."""

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        """The columns of `rows(..., options)`."""
        return self.columns

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        """Of a tool that is `Raw`: whether bytes are wanted rather than a table, on a terminal or
        elsewhere."""
        return True

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        """The answer, row by row. Raises OSError and CallRolledBack only where no row at all can be made."""
        raise NotImplementedError


@runtime_checkable
class Raw(Protocol):
    """A tool whose answer is bytes: `hb run` writes them as they are where no table is asked for."""

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The bytes, in pieces, or why a piece could not be read."""


UNREADABLE = (OSError, CallRolledBack, ParseError)
"""What reading one file of the guest may raise; a tool makes an `Unavailable` of it and goes on."""


def why(path: str, error: BaseException) -> Unavailable:
    """The cell that stands for what could not be read from `path`."""
    if isinstance(error, CallRolledBack):
        return Unavailable(f"{path}: {error.reason}")
    if isinstance(error, OSError) and error.strerror:
        return Unavailable(f"{path}: {error.strerror}")
    return Unavailable(f"{path}: {error}")


def in_guest(path: str) -> str:
    """The path as an absolute one of the guest's. Those of /proc and /sys lose their `..`; others keep them, for
    the guest's kernel to follow. OSError if it cannot be a path."""
    if not path or "\0" in path:
        raise OSError(EINVAL, "not a path", path)
    absolute = "/" + path.lstrip("/")
    clean = normpath(absolute)
    return clean if clean in ("/proc", "/sys") or clean.startswith(("/proc/", "/sys/")) else absolute


def error_text(error: BaseException, image: str | None) -> str:
    """An error that ended the work, in one line that names the image (unless the error has named it
    itself)."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split())
    return text if image is None or image in text else f"{image}: {text}"
