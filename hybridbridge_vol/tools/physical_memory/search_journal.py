"""What a long search has done, in a file of this machine, from which an interrupted one goes on.

The first line says what is searched; then each line has one batch of memory: its number, and what was found
in it. A line that was cut at the end of the file is of a search that was ended while it wrote, and counts as
not written.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Self

from hybridbridge_vol.errors import OptionError

_FORM = "hybridbridge search 1"
_BEGINNING = b'{"form": "hybridbridge search '
_OTHER = "of another search: another image, other rules or other options"
_FOREIGN = "not a file of a search"
MAX_LINE = 256 << 20
"""Bytes of one line."""

Found = Any
"""What JSON can hold."""


class SearchJournal:
    """An open journal; a context manager. `done` is what was found in each batch that was searched before."""

    def __init__(self, path: str, search: Sequence[str | int], batches: int) -> None:
        """Begin the file, or go on with it. `search` says what is searched, in so many batches. OptionError
        if the file is of another search, is no journal, or cannot be used."""
        self.done: dict[int, Found] = {}
        self._path = path
        head = _line({"form": _FORM, "search": list(search), "batches": batches})
        try:
            self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise OptionError(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(head, batches)
        except BlockingIOError:
            self.close()
            raise OptionError(f"{path}: another search is writing it") from None
        except OSError as error:
            self.close()
            raise OptionError(f"{path}: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def add(self, number: int, found: Found) -> None:
        """A batch was searched. OptionError if that cannot be written."""
        try:
            self._write(_line({"batch": number, "found": found}))
        except OSError as error:
            raise OptionError(f"{self._path}: {error.strerror}") from None

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, head: bytes, batches: int) -> None:
        self._file.seek(0)
        first = self._file.read(len(head))
        if first != head:
            if not head.startswith(first):
                raise OptionError(f"{self._path}: {_OTHER if first.startswith(_BEGINNING) else _FOREIGN}")
            self._file.truncate(0)
            self._write(head)
        end = self._file.tell()
        for item in self._lines():
            number = item.get("batch") if isinstance(item, dict) else None
            if not isinstance(number, int) or not 0 <= number < batches or "found" not in item:
                raise OptionError(f"{self._path}: damaged behind byte {end:,}")
            self.done[number] = item["found"]
            end = self._file.tell()
        self._file.truncate(end)

    def _lines(self) -> Iterator[Any]:
        """The whole lines behind the first; None for one that cannot be read."""
        while (line := self._file.readline(MAX_LINE)).endswith(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                yield None

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


def _line(item: dict[str, Any]) -> bytes:
    return json.dumps(item).encode() + b"\n"
