"""Recorded answers: canonical JSON, one row a line; and the differences between two answers, as text."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybridbridge_vol.errors import CasesError
from hybridbridge_vol.lab.regress.cases import Case, Run
from hybridbridge_vol.toolkit.cells import as_json
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.render import read_errors
from hybridbridge_vol.toolkit.tool import Column, Row

MOVES = "<moves>"
"""Recorded in place of a value that is not compared."""
MAX_SHOWN = 100
"""Differences of one run that are shown."""

Record = dict[str, object]
"""A row by column names, as JSON has it."""


class Answer(NamedTuple):
    """The rows of a run as they are compared; `columns` in the tool's order."""

    columns: tuple[str, ...]
    rows: tuple[Record, ...]

    def dump(self) -> str:
        """The text of the recording: the same answer is always the same text."""
        head = json.dumps({"columns": self.columns})
        return "[\n" + ",\n".join([head, *(json.dumps(row, sort_keys=True) for row in self.rows)]) + "\n]\n"


def canonical(case: Case, run: Run, columns: Sequence[Column], rows: Sequence[Row]) -> Answer:
    """An answer without what may change. CasesError if the case names a column that the tool does not
    have."""
    tool = run.tool.name
    moving, without = case.moving.get(tool, frozenset()), case.without.get(tool, {})
    known = {column.name: None for column in (*columns, *run.tool.columns)}
    for name in [*moving, *without]:
        if name not in known:
            raise CasesError(f"{case.place}: {tool} has no column {name!r}; there are {', '.join(known)}")
    records = []
    for row in rows:
        record = _record(columns, row)
        if not any(name in record and pattern.search(str(record[name])) for name, pattern in without.items()):
            records.append(record | {name: MOVES for name in moving if record.get(name) is not None})
    if tool in case.unordered:
        records.sort(key=lambda record: json.dumps(record, sort_keys=True))
    return Answer(tuple(column.name for column in columns), tuple(records))


def _record(columns: Sequence[Column], row: Row) -> Record:
    cells = zip(row.cells, columns, strict=True)
    record: Record = {column.name: as_json(cell, column.kind) for cell, column in cells}
    unreadable = read_errors(columns, row)
    if row.depth:
        record["depth"] = row.depth
    if unreadable:
        record["unreadable"] = unreadable
    return record


def load(path: Path) -> Answer:
    """A recorded answer. CasesError if there is none, or if it is damaged."""
    try:
        head, *rows = json.loads(path.read_text(encoding="ascii"))
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError
        return Answer(tuple(head["columns"]), tuple(rows))
    except FileNotFoundError:
        raise CasesError(f"{path}: nothing is recorded; run 'hb regress record'") from None
    except OSError as error:
        raise CasesError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CasesError(f"{path}: not a recorded answer; record it anew") from None


def differences(was: Answer, now: Answer) -> list[str]:
    """What differs, one line each: `- row` gone, `+ row` new, `~ key: COLUMN was -> is`, `> row` at another
    place among the same rows. Empty if nothing differs."""
    lines = []
    if was.columns != now.columns:
        lines.append(f"columns: {', '.join(was.columns)} -> {', '.join(now.columns)}")
    before, after = ([json.dumps(row, sort_keys=True) for row in answer.rows] for answer in (was, now))
    gone, new = _only(was.rows, before, after), _only(now.rows, after, before)
    lines += _changed(now.columns, _key(was, now), gone, new)
    if not gone and not new:
        moved = [row for row, text, other in zip(now.rows, after, before, strict=True) if text != other]
        lines += [f"> {_shown(now.columns, row)}" for row in moved]
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"and {len(lines) - MAX_SHOWN} more"]
    return lines


def _only(rows: Sequence[Record], texts: Sequence[str], others: Sequence[str]) -> list[Record]:
    """The rows that the other answer does not have, or has fewer times."""
    left, found = Counter(others), []
    for row, text in zip(rows, texts, strict=True):
        if left[text]:
            left[text] -= 1
        else:
            found.append(row)
    return found


def _key(was: Answer, now: Answer) -> tuple[str, ...]:
    """The columns that identify a row: the fewest leading ones, of those that are compared, whose values are
    different in all rows; all of them if some rows are equal."""
    fixed = [
        name for name in now.columns if not any(row.get(name) == MOVES for row in (*was.rows, *now.rows))
    ]
    for count in range(1, len(fixed)):
        key = tuple(fixed[:count])
        if all(len({_values(key, row) for row in answer.rows}) == len(answer.rows) for answer in (was, now)):
            return key
    return tuple(fixed)


def _values(key: Sequence[str], row: Record) -> str:
    return json.dumps([row.get(name) for name in key], sort_keys=True)


def _changed(
    columns: Sequence[str], key: Sequence[str], gone: Sequence[Record], new: Sequence[Record]
) -> Iterator[str]:
    """Lines for rows that are gone, changed (the same key in both answers) or new."""
    waiting: dict[str, deque[Record]] = {}
    for row in new:
        waiting.setdefault(_values(key, row), deque()).append(row)
    for row in gone:
        same = waiting.get(_values(key, row)) if key else None
        if not same:
            yield f"- {_shown(columns, row)}"
            continue
        other = same.popleft()
        fields = [
            name
            for name in dict.fromkeys([*columns, *row, *other])
            if _values((name,), row) != _values((name,), other)
        ]
        changes = ", ".join(f"{name} {_text(row.get(name))} -> {_text(other.get(name))}" for name in fields)
        yield f"~ {' '.join(f'{name} {_text(row.get(name))}' for name in key)}: {changes}"
    left = {id(row) for rows in waiting.values() for row in rows}
    yield from (f"+ {_shown(columns, row)}" for row in new if id(row) in left)


def _shown(columns: Sequence[str], row: Record) -> str:
    names = [*columns, *(name for name in row if name not in columns)]
    return " ".join(f"{name}={_text(row[name])}" for name in names if row.get(name) not in (None, MOVES))


def _text(value: object) -> str:
    if isinstance(value, str) and value and " " not in value:
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False))
