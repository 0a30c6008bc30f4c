"""How `hb info`, `hb trust` and `hb memo` write what the engine reports: any dataclass, field by field.

The name of a field decides how its value is shown: `_vaddr`, `_paddr`, `_offset` and `_shift` are
hexadecimal, `_bytes` is a size, the names in `TIMES` are moments in UTC.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO, TypeGuard

from hybridbridge_vol.toolkit.cells import Kind, Value, duration, utc
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.render import WRITERS, Answer
from hybridbridge_vol.toolkit.tool import Column, Row
from hybridbridge_vol.units import short_size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TIMES = ("created", "captured_at")
"""Fields that hold seconds since the epoch."""
DURATIONS = ("uptime",)
"""Fields that hold a number of seconds."""
LONG, MOST_LINES = ("missing",), 40
"""Fields whose list is cut, and after how many further lines: a core that follows page tables lacks thousands
of ranges."""
_ADDRESSES = ("_vaddr", "_paddr", "_offset", "_shift")
_SUFFIXES = {"_bytes": "", "_vaddr": " (virtual)", "_paddr": " (physical)"}
_ACRONYMS = {"kaslr": "KASLR", "cpus": "CPUs", "id": "ID"}


def write_facts(facts: DataclassInstance, form: str, out: TextIO) -> None:
    """Write one dataclass: aligned `Label: value` lines (a nested one indented below its label), or a JSON
    object."""
    if form == "json":
        json.dump(plain(facts), out, indent=1)
        out.write("\n")
        return
    lines = list(_lines(facts, ""))
    width = max((len(label) for label, _ in lines), default=0)
    out.writelines(f"{label:{width}} {printable(value)}".rstrip() + "\n" for label, value in lines)


def _lines(facts: DataclassInstance, indent: str) -> Iterator[tuple[str, str]]:
    """`(label, text)` of each line; a list continues on lines without a label."""
    for field in dataclasses.fields(facts):
        value = getattr(facts, field.name)
        label = f"{indent}{label_of(field.name)}"
        if _is_dataclass(value):
            yield f"{label}:", ""
            yield from _lines(value, indent + "  ")
        elif isinstance(value, (list, tuple)):
            yield from _lines_of_list(field.name, label, value, indent)
        else:
            yield f"{label}:", shown(field.name, value)


def _lines_of_list(name: str, label: str, values: Sequence[object], indent: str) -> Iterator[tuple[str, str]]:
    nested = [item for item in values if _is_dataclass(item)]
    for number, item in enumerate(nested):
        yield f"{label} {number}:", ""
        yield from _lines(item, indent + "  ")
    if nested:
        return
    first, *rest = values or [None]
    yield f"{label}:", shown(name, first)
    most = MOST_LINES if name in LONG else len(rest)
    yield from (("", shown(name, item)) for item in rest[:most])
    if len(rest) > most:
        yield "", f"and {len(rest) - most:,} more (all of them with --format json)"


def _is_dataclass(value: object) -> TypeGuard[DataclassInstance]:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def label_of(name: str) -> str:
    """`size_bytes` -> `Size`, `text_vaddr` -> `Text (virtual)`, `kaslr_shift` -> `KASLR shift`."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    words = name.removesuffix(suffix).split("_")
    words = [_ACRONYMS.get(word, word if place else word.capitalize()) for place, word in enumerate(words)]
    return " ".join(words) + _SUFFIXES.get(suffix, "")


def shown(name: str, value: object) -> str:
    """A field's value as a person reads it; `-` where there is none."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith(_ADDRESSES):
            return f"{value:#x}"
        case int() if name.endswith("_bytes"):
            return size(value)
        case float() if name in TIMES:
            return utc(value)
        case float() if name in DURATIONS:
            return f"{duration(value)} ({value:.3f} s)"
        case dict():
            return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    return str(value).strip()


def size(count: int) -> str:
    """Bytes in the largest unit that is not below one, and exactly: `256.0 MiB (268435456 bytes)`."""
    return f"{count} bytes" if count < 1024 else f"{short_size(count)} ({count} bytes)"


def plain(value: object) -> object:
    """A value as JSON has it: dataclasses as objects, sequences as lists, bytes in hexadecimal."""
    if _is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case bytes():
            return value.hex()
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def write_records(
    records: Sequence[DataclassInstance], form: str, out: TextIO, details: Collection[str] = ()
) -> None:
    """Write dataclasses of one type as a table (without the fields named in `details`), JSON or CSV."""
    if form == "json":
        json.dump([plain(record) for record in records], out, indent=1)
        out.write("\n")
    elif records:
        WRITERS[form](_as_csv(records) if form == "csv" else _as_table(records, details), out)


def _as_csv(records: Sequence[DataclassInstance]) -> Answer:
    names = [field.name for field in dataclasses.fields(records[0])]
    columns = [Column(name, _kind(name, getattr(records[0], name)), name) for name in names]
    return Answer(columns, [Row(tuple(_cell(getattr(item, name)) for name in names)) for item in records])


def _as_table(records: Sequence[DataclassInstance], details: Collection[str]) -> Answer:
    names = [field.name for field in dataclasses.fields(records[0]) if field.name not in details]
    columns = [
        Column(label_of(name).upper(), "str", name, left=isinstance(getattr(records[0], name), str))
        for name in names
    ]
    return Answer(
        columns, [Row(tuple(_short(name, getattr(item, name)) for name in names)) for item in records]
    )


def _cell(value: object) -> Value:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def _short(name: str, value: object) -> str:
    return short_size(value) if isinstance(value, int) and name.endswith("_bytes") else shown(name, value)


def _kind(name: str, value: object) -> Kind:
    match value:
        case int() | float() if name in TIMES:
            return "time"
        case int():
            return "hex" if name.endswith(_ADDRESSES) else "int"
        case float():
            return "float"
    return "str"
