"""The tools for scripts and notebooks: `hybridbridge_vol.open(image)` gives a `Snapshot` with a method for each.

    import hybridbridge_vol, pandas

    with hybridbridge_vol.open("dump.raw") as snapshot:
        processes = pandas.DataFrame(snapshot.ps())
        for socket in snapshot.netstat(listening=True):
            print(socket.local_address, socket.pid_program_name)

A row is a named tuple. Its fields are the columns' names in lower case, with `pct_` for `%` and `_` for what else is no
letter or digit (`%CPU` is `pct_cpu`, `SIZE/OFF` is `size_off`). Times are aware `datetime`s in UTC, durations `timedelta`s,
addresses `int`s; what is not there, or could not be read, is None, and `Table.unreadable` says why.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest import tools
from hybridbridge_vol.guest.session import Progress, open_session
from hybridbridge_vol.guest.tool import Cell, Column, Kind, Option, Row, Tool, Unavailable

if TYPE_CHECKING:
    import pandas

__all__ = ["HybridBridgeError", "Snapshot", "Table", "open_snapshot"]

_TYPES: dict[Kind, type] = {
    "int": int, "float": float, "percent": float, "hex": int, "str": str, "time": datetime, "duration": timedelta,
}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SHOWN = 200
"""Rows that a notebook shows of a table."""


class Table(list[Any]):
    """The rows of an answer, in the tool's order. `pandas.DataFrame(table)` has the fields' names as columns,
    `to_pandas()` the tool's own."""

    def __init__(self, columns: tuple[Column, ...], row_type: type[Any]) -> None:
        super().__init__()
        self.columns = columns
        self.row_type = row_type
        self.unreadable: list[tuple[int, str, str]] = []
        """`(number of the row from 0, column, why it could not be read)`."""

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with the tool's own column names, in which numbers that are missing leave the others whole. Needs
        pandas."""
        import pandas

        frame = pandas.DataFrame(list(self), columns=list(self.row_type._fields))
        for field, column in zip(frame.columns, self.columns, strict=False):
            if column.kind in ("int", "hex") and frame[field].hasnans:
                values = [getattr(row, field) for row in self]
                frame[field] = pandas.array(values, "UInt64" if column.kind == "hex" else "Int64")
        return frame.rename(columns=dict(zip(frame.columns, (column.name for column in self.columns), strict=False)))

    def _repr_html_(self) -> str:
        from html import escape

        from hybridbridge_vol.guest.render import printable

        def cell(value: object) -> str:
            return "" if value is None else escape(printable(str(value)))

        names = [column.name for column in self.columns]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row[: len(names)])}</tr>" for row in self[:_MOST_SHOWN]
        )
        more = f"<p>{len(self) - _MOST_SHOWN} more rows</p>" if len(self) > _MOST_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


class _ToolMethod:
    """Makes the method of a tool when it is first looked at."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, snapshot: Snapshot | None, _owner: type) -> Callable[..., Any]:
        return _method(self._name, snapshot)


def _method(name: str, snapshot: Snapshot | None) -> Callable[..., Any]:
    tool = tools.load(name)

    def method(*arguments: Any, **options: Any) -> Table:
        if snapshot is None:
            raise TypeError(f"{name}() is a method of an opened snapshot")
        return snapshot.table(tool, *arguments, **options)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = documentation(tool)
    ordered = sorted(tool.options, key=lambda option: not option.positional)
    method.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                argument_of(option),
                inspect.Parameter.POSITIONAL_OR_KEYWORD if option.positional else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if option.positional else option.default,
            )
            for option in ordered
        ]
    )
    return method


class Snapshot:
    """An opened memory image. Each tool is a method, with the tool's options as keyword arguments; `dir()` lists them and
    `help(snapshot.ps)` explains one. A context manager; not for several threads at once."""

    def __init__(
        self, image: str | Path, store: str | Path | None, bridge: str, ns_of: int | None, progress: Progress | None
    ) -> None:
        self.path = str(image)
        self._session = open_session(image, Path(store) if store else None, progress, bridge, ns_of)

    @property
    def kernel(self) -> str:
        """The release of its kernel."""
        return self._session.bridge.kernel.release

    @property
    def frozen(self) -> datetime:
        """When it was taken, by its own clock."""
        return _EPOCH + timedelta(seconds=self._session.realtime())

    def read_file(self, path: str) -> bytes:
        """The content of a file of the snapshot's /proc or /sys. OSError, or CallUndone where the image stands in the way."""
        from hybridbridge_vol.guest.tool import in_guest

        return self._session.read_file(in_guest(path))

    def listdir(self, path: str) -> list[str]:
        """The names in a directory of the snapshot's /proc or /sys."""
        from hybridbridge_vol.guest.tool import in_guest

        return self._session.listdir(in_guest(path))

    def table(self, tool: Tool, *arguments: Any, **options: Any) -> Table:
        """The answer of a tool. TypeError for an option that it does not have; HybridBridgeError or OSError if there is no
        answer at all."""
        chosen = options_of(tool, arguments, options)
        columns = tool.columns_for(chosen)
        table = Table(columns, row_type(tool.name, columns, tool.tree_column is not None))
        for number, row in enumerate(tool.rows(self._session, chosen)):
            table.append(_typed(table.row_type, columns, row, tool.tree_column is not None))
            for column, cell in zip(columns, row.cells, strict=True):
                if isinstance(cell, Unavailable):
                    table.unreadable.append((number, column.name, cell.reason))
        return table

    def close(self) -> None:
        """Let everything go; what was proven is kept for the next time."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Snapshot {self.path}: {self.kernel}>"

    if TYPE_CHECKING:

        def __getattr__(self, tool: str) -> Callable[..., Table]: ...


for _name in tools.NAMES:
    setattr(Snapshot, _name, _ToolMethod(_name))


def open_snapshot(
    image: str | Path, store: str | Path | None = None, *, bridge: str = "auto", ns_of: int | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """See `hybridbridge_vol.open`."""
    return Snapshot(image, store, bridge, ns_of, progress)


def field_of(column: str) -> str:
    """The name of a row's field for a column."""
    name = re.sub(r"[^0-9a-z]+", "_", column.replace("%", " pct ").lower()).strip("_") or "value"
    name = f"n{name}" if name[0].isdigit() else name
    return f"{name}_" if keyword.iskeyword(name) else name


def argument_of(option: Option) -> str:
    """The name of an option as an argument."""
    name = option.name.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


@lru_cache(maxsize=128)
def row_type(tool: str, columns: tuple[Column, ...], tree: bool) -> type[Any]:
    """The named tuple of a tool's rows; with `depth` where they make a tree."""
    found: dict[str, Any] = {}
    for column in columns:
        name = field_of(column.name)
        while name in found:
            name += "_"
        found[name] = _TYPES[column.kind] | None
    if tree:
        found["depth"] = int
    return NamedTuple(f"{tool.capitalize()}Row", list(found.items()))  # type: ignore[misc, return-value]


def _typed(row: type[Any], columns: tuple[Column, ...], found: Row, tree: bool) -> Any:
    values = [_value(cell, column.kind) for cell, column in zip(found.cells, columns, strict=True)]
    return row(*values, found.depth) if tree else row(*values)


def _value(cell: Cell, kind: Kind) -> Any:
    if cell is None or isinstance(cell, (Unavailable, str)):
        return cell if isinstance(cell, str) else None
    try:
        if kind == "time":
            return _EPOCH + timedelta(seconds=cell)
        return timedelta(seconds=cell) if kind == "duration" else cell
    except OverflowError:  # an image may claim any time
        return None


def options_of(tool: Tool, arguments: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    """A tool's options from a method's arguments. TypeError says which there are."""
    known = {argument_of(option): option for option in tool.options}
    positional = [argument_of(option) for option in tool.options if option.positional]
    if len(arguments) > len(positional):
        raise TypeError(f"{tool.name}() takes {', '.join(positional) or 'only keyword arguments'}; {_choices(tool)}")
    given = dict(zip(positional, arguments, strict=False)) | given
    for name in given:
        if name not in known:
            raise TypeError(f"{tool.name}() has no option {name!r}; {_choices(tool)}")
    chosen: dict[str, Any] = {}
    for name, option in known.items():
        if name not in given and option.positional:
            raise TypeError(f"{tool.name}() needs {name!r}: {option.help}")
        chosen[option.name] = _checked(tool, option, given[name]) if name in given else option.default
    return chosen


def _checked(tool: Tool, option: Option, value: Any) -> Any:
    if option.many:
        alone = isinstance(value, str) or not isinstance(value, Iterable)
        return tuple(_checked(tool, option._replace(many=False), item) for item in ([value] if alone else value))
    if value is None and option.default is None:
        return None
    if type(value) is not option.type:
        raise TypeError(f"{tool.name}({argument_of(option)}=…) is {option.type.__name__}, not {type(value).__name__}")
    return value


def _choices(tool: Tool) -> str:
    names = ", ".join(argument_of(option) for option in tool.options)
    return f"its options are {names}" if names else "it has no options"


def documentation(tool: Tool) -> str:
    """What `help()` says of a tool's method."""
    lines = [f"{tool.help}.", ""]
    if tool.notes:
        lines += [tool.notes, ""]
    if tool.options:
        lines += ["Options:", *(f"    {argument_of(option)}: {_kind(option)}: {option.help}" for option in tool.options), ""]
    columns = tool.columns_for({option.name: option.default for option in tool.options})
    lines += ["Fields of a row:", *(f"    {field_of(column.name)}: {_TYPES[column.kind].__name__}: {column.help}" for column in columns)]
    return "\n".join(lines)


def _kind(option: Option) -> str:
    return f"{option.type.__name__}{', or several' if option.many else ''}"


