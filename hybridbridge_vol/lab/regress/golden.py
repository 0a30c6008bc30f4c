"""Answers that are kept to be compared with later: canonical JSON, one row a line; and what differs, for
people."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybridbridge_vol.errors import CasesError
from hybridbridge_vol.lab.regress.cases import Case, Run
from hybridbridge_vol.toolkit.cells import as_json
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.render import read_errors
from hybridbridge_vol.toolkit.tool import Column, Row

MOVES = "<moves>"
"""Stands for a value that is not compared."""
MAX_SHOWN = 100
"""Differences that are shown of one run."""
Record = dict[str, Any]


class Answer(NamedTuple):
    """A run's rows as they are compared; `columns` in the tool's order."""

    columns: tuple[str, ...]
    rows: tuple[Record, ...]

    def dump(self) -> str:
        """As it is kept: the same answer is always the same text."""
        head = json.dumps({"columns": self.columns})
        return "[\n" + ",\n".join([head, *(json.dumps(row, sort_keys=True) for row in self.rows)]) + "\n]\n"


def canonical(case: Case, run: Run, columns: Sequence[Column], rows: Sequence[Row]) -> Answer:
    """An answer without what may move. CasesError if the case names a column that the tool does not have."""
    name = run.tool.name
    moving, without = case.moving.get(name, frozenset()), case.without.get(name, {})
    names = tuple(column.name for column in columns)
    for column in [*moving, *without]:
        if column not in {column.name for column in (*columns, *run.tool.columns)}:
            raise CasesError(
                f"{case.file}: case {case.name!r}: {name} has no column {column!r}; there are {', '.join(names)}"
            )
    found = []
    for row in rows:
        record: Record = {
            column.name: as_json(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True)
        }
        if any(
            column in record and pattern.search(str(record[column])) for column, pattern in without.items()
        ):
            continue
        record |= {column: MOVES for column in moving if record.get(column) is not None}
        if row.depth:
            record["depth"] = row.depth
        unreadable = read_errors(columns, row)
        if unreadable:
            record["unreadable"] = unreadable
        found.append(record)
    if name in case.unordered:
        found.sort(key=lambda record: json.dumps(record, sort_keys=True))
    return Answer(names, tuple(found))


def load(path: Path) -> Answer:
    """A recorded answer. CasesError if there is none or it is damaged."""
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
    """What differs, a line each: `- row` gone, `+ row` new, `~ key: COLUMN was -> is`, `> row` elsewhere
    among the same rows. Empty if nothing does."""
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
    """The rows that the other answer does not have, or not as often."""
    left, found = Counter(others), []
    for row, text in zip(rows, texts, strict=True):
        if left[text]:
            left[text] -= 1
        else:
            found.append(row)
    return found


def _key(was: Answer, now: Answer) -> tuple[str, ...]:
    """The columns that tell which row is which: the fewest leading ones, of those that do not move, that are
    different in all rows; all of them where some rows are equal."""
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
    """Rows of the same key are one that changed."""
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
        error_text = ", ".join(
            f"{name} {_text(row.get(name))} -> {_text(other.get(name))}" for name in fields
        )
        yield f"~ {' '.join(f'{name} {_text(row.get(name))}' for name in key)}: {error_text}"
    left = {id(row) for rows in waiting.values() for row in rows}
    yield from (f"+ {_shown(columns, row)}" for row in new if id(row) in left)


def _shown(columns: Sequence[str], row: Record) -> str:
    names = [*columns, *(name for name in row if name not in columns)]
    return " ".join(f"{name}={_text(row[name])}" for name in names if row.get(name) not in (None, MOVES))


def _text(value: Any) -> str:
    return printable(
        value
        if isinstance(value, str) and value and " " not in value
        else json.dumps(value, ensure_ascii=False)
    )
