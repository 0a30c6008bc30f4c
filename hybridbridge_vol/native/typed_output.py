"""What well-known programs print, as typed rows: by the parsers of the library jc."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.toolkit.cells import Kind, Value
from hybridbridge_vol.toolkit.tool import Column


class TypedOutput(NamedTuple):
    """A column for each field that any record has, in the order in which they come; a row for each record."""

    columns: tuple[Column, ...]
    rows: list[tuple[Value, ...]]


def parser_of(words: Sequence[str]) -> str | None:
    """The name of jc's parser for a command; None if it has none. OptionError if jc is not installed."""
    try:
        from jc.lib import all_parser_info
    except ImportError:
        message = "--typed needs the library jc: pip install 'hybridbridge-vol[exec]'"
        raise OptionError(message) from None
    command = [words[0].rpartition("/")[2], *words[1:]]
    known = {
        tuple(start.split()): parser["name"]
        for parser in all_parser_info()
        for start in parser.get("magic_commands", ())
    }
    starts = (tuple(command[:length]) for length in range(len(command), 0, -1))
    return next((known[start] for start in starts if start in known), None)


def typed(parser: str, text: str) -> TypedOutput:
    """What a parser of jc's makes of a program's output. ValueError if it makes nothing of it."""
    import jc

    try:
        found = jc.parse(parser, text, quiet=True)
    except Exception as error:  # noqa: BLE001  each parser raises what it likes
        raise ValueError(f"jc's parser {parser}: {type(error).__name__}: {error}") from None
    records = [found] if isinstance(found, Mapping) else [dict(record) for record in found]
    names = list(dict.fromkeys(name for record in records for name in record))
    kinds = {name: _kind([record.get(name) for record in records]) for name in names}
    columns = tuple(Column(name, kinds[name], f"by jc's parser {parser}") for name in names)
    return TypedOutput(columns, [tuple(_value(record.get(name)) for name in names) for record in records])


def _kind(values: Sequence[Any]) -> Kind:
    types = {type(value) for value in values if value is not None}
    return "int" if types == {int} else "float" if types and types <= {int, float} else "str"


def _value(value: Any) -> Value:
    """Lists and records within a record are JSON."""
    return value if value is None or type(value) in (int, float, str) else json.dumps(value)
