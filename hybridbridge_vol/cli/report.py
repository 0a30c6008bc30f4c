"""How `hb info` and `hb trust` write what the engine tells them: any dataclass, field by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TextIO

from hybridbridge_vol.toolkit.render import WRITERS, Answer, printable, utc
from hybridbridge_vol.toolkit.tool import Column, Kind, Row, Value


def write_facts(facts: Any, form: str, out: TextIO) -> None:
    """One dataclass: aligned `Label: value` lines (a nested one indented below its label), or a JSON
    object."""
    if form == "json":
        import json

        json.dump(plain(facts), out, indent=1)
        out.write("\n")
        return
    lines = list(_lines(facts, ""))
    width = max((len(label) for label, _ in lines), default=0)
    out.writelines(f"{label:{width}} {printable(value)}".rstrip() + "\n" for label, value in lines)


def _lines(facts: Any, indent: str) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(facts):
        value = getattr(facts, field.name)
        label = f"{indent}{label_of(field.name)}:"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield label, ""
            yield from _lines(value, indent + "  ")
        elif _is_list(value) and any(dataclasses.is_dataclass(item) for item in value):
            for number, item in enumerate(value):
                yield f"{indent}{label_of(field.name)} {number}:", ""
                yield from _lines(item, indent + "  ")
        elif _is_list(value) and len(value) > 1:
            yield label, shown(field.name, value[0])
            yield from (("", shown(field.name, item)) for item in value[1:])
        elif _is_list(value):
            yield label, shown(field.name, value[0]) if value else "-"
        else:
            yield label, shown(field.name, value)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and not hasattr(value, "_fields")


def label_of(name: str) -> str:
    """`size_bytes` -> `Size`, `text_vaddr` -> `Text vaddr`; units are told by the value."""
    for unit in ("_bytes", "_seconds"):
        name = name.removesuffix(unit)
    return name[:1].upper() + name[1:].replace("_", " ")


def shown(name: str, value: Any) -> str:
    """A value as a person reads it; the field's name tells its kind: an address is hexadecimal, `_bytes` a
    size."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith(("_vaddr", "_paddr", "_offset", "_shift")):
        return f"{value:#x}"
    if isinstance(value, int) and name.endswith("_bytes"):
        return size(value)
    if isinstance(value, float) and name in TIMES:
        return utc(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, tuple):
        return " ".join(shown(name, item) for item in value)
    return str(value).strip()


TIMES = ("created", "captured_at", "freeze_time", "realtime")
"""Fields of the engine's dataclasses that hold seconds since the epoch."""


def size(count: int) -> str:
    """Bytes in the largest unit that is not below one, and exactly: `256.0 MiB (268435456 bytes)`."""
    return f"{count} bytes" if count < 1024 else f"{short_size(count)} ({count} bytes)"


def short_size(count: int) -> str:
    """Bytes in the largest unit that is not below one: `256.0 MiB`."""
    amount, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.1f} {unit}" if count >= 1024 else f"{count} bytes"


def plain(value: Any) -> Any:
    """A value as JSON has them: dataclasses as objects, sequences as lists, the rest as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def write_records(records: Sequence[Any], form: str, out: TextIO, details: Collection[str] = ()) -> None:
    """Dataclasses of one type as a table (without the fields named in `details`), JSON or CSV."""
    if form == "json":
        import json

        json.dump([plain(record) for record in records], out, indent=1)
        out.write("\n")
        return
    if not records:
        return
    names = [field.name for field in dataclasses.fields(records[0])]
    if form == "csv":
        columns = [Column(name, _kind(name, records[0]), name) for name in names]
        rows = (Row(tuple(_cell(getattr(record, name)) for name in names)) for record in records)
    else:
        names = [name for name in names if name not in details]
        columns = [
            Column(label_of(name).upper(), "str", name, left=None if _is_text(records[0], name) else False)
            for name in names
        ]
        rows = (Row(tuple(_told(name, getattr(record, name)) for name in names)) for record in records)
    WRITERS[form](Answer(columns, rows), out)


def _is_text(record: Any, name: str) -> bool:
    return isinstance(getattr(record, name), str)


def _cell(value: Any) -> Value:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def _told(name: str, value: Any) -> str:
    return short_size(value) if isinstance(value, int) and name.endswith("_bytes") else shown(name, value)


def _kind(name: str, record: Any) -> Kind:
    value = getattr(record, name)
    if name in TIMES and isinstance(value, (int, float)):
        return "time"
    if isinstance(value, int):
        return "hex" if name.endswith(("_vaddr", "_paddr", "_offset")) else "int"
    return "float" if isinstance(value, float) else "str"
