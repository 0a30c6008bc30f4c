"""What a tool is: one description, from which `hb run`, the library and the Volatility plugin are made.

A tool describes its options and columns as data and yields rows; it knows neither argparse nor Volatility nor
how a table is drawn. A cell that could not be read is an `Unavailable` with the reason, so that no row is
dropped in silence and no guess is shown as an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from hybridbridge_vol.allowance import ANSWER_MEMORY, ANSWER_SECONDS
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Kind, Unavailable


class Row(NamedTuple):
    """One line of the answer. With `depth` > 0 it is a child of the nearest earlier row of a smaller depth.
    `sources` are the bytes of the guest's answers that its cells were made from."""

    cells: tuple[Cell, ...]
    depth: int = 0
    sources: tuple[Source, ...] = ()


class Column(NamedTuple):
    """A column of the answer."""

    name: str
    kind: Kind
    help: str
    """A phrase without a full stop."""
    left: bool | None = None
    """Aligned left; None: by its kind (str left, the others right)."""


MomentKind: TypeAlias = Literal["created", "modified", "accessed", "changed"]
"""What timelines tell apart: of a file its four times; everything else happens once, and is created then."""


class Moment(NamedTuple):
    """A column of times that belongs into a timeline. `event` is a phrase for what happened then, in which
    `{COLUMN}` stands for the row's cell of that column."""

    column: str
    kind: MomentKind
    event: str


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
    """One letter by which `hb run` takes the option too (`-t`); letters of flags can be joined
    (`-tulpan`)."""
    examples: tuple[str, ...] = ()
    """For an option that changes the columns: values that together show all columns there can be."""
    of_this_machine: bool = False
    """Its value is the path of a file of this machine, which the tool reads."""
    is_written: bool = False
    """Its value is the path of a file of this machine, which the tool begins or goes on with."""

    @property
    def default(self) -> bool | tuple[()] | None:
        if self.many:
            return ()
        return False if self.type is bool else None


Options = Mapping[str, Any]
"""A tool's options by name, all of them present: bool, int | None, str | None or a tuple, as the `Option`
declares. `Any`, since they come from argparse and from Volatility's configuration, which know no types."""


class Tool:
    """Base of all tools. A subclass fills in the class attributes and `rows`; its module exports it as
    `TOOL`."""

    name: ClassVar[str]
    help: ClassVar[str]
    """One line, no full stop."""
    notes: ClassVar[str] = ""
    """What else a user should know: where it differs from the native tool of that name, what cannot be
    known."""
    example: ClassVar[str] = ""
    """Arguments of a useful example, as typed after its name."""
    options: ClassVar[tuple[Option, ...]] = ()
    columns: ClassVar[tuple[Column, ...]]
    moments: ClassVar[tuple[Moment, ...]] = ()
    """Its columns of times that belong into a timeline; with the default options they must be there."""
    moment_text: ClassVar[tuple[str, ...]] = ()
    """Columns that say what a moment is about."""
    runs_kernel: ClassVar[bool] = True
    """Whether the answer is made by code of the guest's kernel; from others training has nothing to learn."""
    seconds: ClassVar[float] = ANSWER_SECONDS
    memory: ClassVar[int] = ANSWER_MEMORY
    """What an answer may take: seconds of processor time, and bytes of memory beside what is mapped from
    files."""
    tree_column: ClassVar[str | None] = None
    """The column whose text is indented to show a row's depth where a table is drawn."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Its options as they are if nothing is said: `Options`, to be added to."""
        return {option.name: option.default for option in cls.options}

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        """The columns of `rows(..., options)`."""
        return self.columns

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        """For a tool that is `Raw`: whether bytes are wanted rather than a table, on a terminal or
        elsewhere."""
        return True

    def answering(self, kernel: GuestKernel, options: Options) -> Tool:
        """The tool that answers: this one, or, where columns follow from the answer, one that has it."""
        return self

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        """The answer, row by row. Raises OSError and CallRolledBack only where no row at all can be made."""
        raise NotImplementedError

    def for_table(self, rows: Iterable[Row]) -> Iterable[Row]:
        """The rows as a table for a person has them; a tool may join those that belong together."""
        return rows


@runtime_checkable
class Raw(Protocol):
    """A tool whose answer is bytes: `hb run` writes them as they are where no table is asked for."""

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The bytes, in pieces, or why a piece could not be read."""
