"""Questions to a guest's database of SQLite, in memory: nothing of it is trusted, and its work is bounded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

MAX_SIZE = 1 << 28
"""Bytes of a database."""
MAX_ROWS = 1 << 18
"""Rows of one table."""
MAX_STEPS = 20_000_000
"""Instructions of SQLite's machine for one question: a forged schema may ask for endless work."""
_AT_ONCE = 10_000


def asked(data: bytes, question: str) -> Iterator[tuple[object, ...]]:
    """The rows of the answer. sqlite3.Error, also if the data is no such database."""
    connection = sqlite3.connect(":memory:")
    steps = 0

    def is_enough() -> int:
        nonlocal steps
        steps += _AT_ONCE
        return steps > MAX_STEPS

    try:
        connection.deserialize(_without_log(data))
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        connection.set_progress_handler(is_enough, _AT_ONCE)
        connection.execute("PRAGMA trusted_schema = OFF")
        yield from connection.execute(f"{question} LIMIT {MAX_ROWS}")
    finally:
        connection.close()


def _without_log(data: bytes) -> bytes:
    """A database that is kept with a write-ahead log (bytes 18 and 19 are 2; SQLite's file format, 1.3.3) as
    one without: the log is a file of its own, and is not read."""
    return data[:18] + b"\1\1" + data[20:] if data[18:20] == b"\2\2" else data
