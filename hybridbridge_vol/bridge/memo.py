"""The memo: which code of the twin and of modules is proven under taint, and which static references are
*trusted*.

A memo belongs to one kernel build, one policy and one version of this format; no other is used. It is a set:
two memos of the same kernel are merged by union, and of several writers none loses anything. Each takes the
lock, reads what is stored, adds its own and puts the result in place by a rename.
"""

from __future__ import annotations

import fcntl
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hybridbridge_vol.errors import MemoError
from hybridbridge_vol.trust import column_file, files
from hybridbridge_vol.units import PAGE_SIZE

FORMAT = 3
"""Version of the file's form and of what SLOW-BRIDGE proves."""

_MAGIC = b"hybridbridge memo\n"
_MAX_FILE = 16 << 20
_BREAKPOINT = b"\xcc"
_MODULE_ID = 16


@dataclass(frozen=True)
class MemoKey:
    """What a memo is good for."""

    build_id: str
    policy: str
    release: str = field(default="", compare=False)
    """For people only."""


class Proven:
    """What is proven of one text, as offsets from its start. It only grows, by `add`.

    Proven code is disjoint, ascending ranges. Trusted fields are the 32-bit fields of static references that
    reach the trusted kernel's object, not the snapshot's. Whoever makes text asks for both each time: nothing
    here is handed out to be kept.
    """

    def __init__(self) -> None:
        self._starts = array("I")
        self._ends = array("I")
        self._trusted = array("I")
        self._changed = False

    def __len__(self) -> int:
        """Bytes of proven code."""
        return sum(self._ends) - sum(self._starts)

    @property
    def changed(self) -> bool:
        """Whether anything was added that is not stored yet."""
        return self._changed

    @property
    def trusted(self) -> frozenset[int]:
        """All trusted fields."""
        return frozenset(self._trusted)

    def add(self, ranges: Iterable[tuple[int, int]], trusted: Iterable[int] = ()) -> None:
        """Take in `(start, end)` ranges of proven code and trusted fields."""
        new_fields = set(trusted).difference(self._trusted)
        if new_fields:
            self._trusted = array("I", sorted(new_fields.union(self._trusted)))
        incoming = [(start, end) for start, end in ranges if start < end and not self.covers(start, end)]
        if incoming:
            starts, ends = array("I"), array("I")
            for start, end in sorted([*self.ranges(), *incoming]):
                if ends and start <= ends[-1]:
                    ends[-1] = max(ends[-1], end)
                else:
                    starts.append(start)
                    ends.append(end)
            self._starts, self._ends = starts, ends
        self._changed = self._changed or bool(incoming or new_fields)

    def mark_stored(self) -> None:
        """All of it is in the store, or came from there."""
        self._changed = False

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Proven `(start, end)` ranges, ascending."""
        return zip(self._starts, self._ends, strict=True)

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `[start, end)` is proven."""
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and end <= self._ends[index]

    def trusted_in(self, start: int, stop: int) -> array[int]:
        """The trusted fields that begin in `[start, stop)`, ascending."""
        return self._trusted[bisect_left(self._trusted, start) : bisect_left(self._trusted, stop)]

    def masked(self, offset: int, page: bytes | bytearray) -> bytearray:
        """The text's page at `offset` with `int3` wherever nothing is proven."""
        out = bytearray(_BREAKPOINT * len(page))
        index = bisect_left(self._ends, offset + 1)
        while index < len(self._starts) and self._starts[index] < offset + PAGE_SIZE:
            first, last = max(self._starts[index] - offset, 0), min(self._ends[index] - offset, PAGE_SIZE)
            out[first:last] = page[first:last]
            index += 1
        return out

    def columns(self) -> tuple[array[int], array[int], array[int]]:
        """Starts and ends of the proven ranges, and the trusted fields: as the file has them."""
        return self._starts, self._ends, self._trusted


class Memo:
    """What is proven of a kernel: of its own `text`, and of the text of its modules by `name:build id`."""

    def __init__(self, key: MemoKey) -> None:
        self.key = key
        self.text = Proven()
        self.modules: dict[str, Proven] = {}

    def of_module(self, name: str, build_id: str) -> Proven:
        """What is proven of one module's text."""
        return self.modules.setdefault(f"{name}:{build_id[:_MODULE_ID]}", Proven())

    def parts(self) -> list[Proven]:
        """The kernel's text and those of all modules."""
        return [self.text, *self.modules.values()]

    def __len__(self) -> int:
        """Bytes of proven code."""
        return sum(map(len, self.parts()))

    @property
    def changed(self) -> bool:
        """Whether anything was added that is not stored yet."""
        return any(part.changed for part in self.parts())

    def mark_stored(self) -> None:
        """All of it is in the store, or came from there."""
        for part in self.parts():
            part.mark_stored()

    def merge(self, other: Memo) -> None:
        """Union with another memo of the same kernel and policy; MemoError if it is not."""
        if other.key != self.key:
            raise MemoError(
                f"a memo of kernel {other.key.release or other.key.build_id} does not fit this one"
            )
        self.text.add(other.text.ranges(), other.text.trusted)
        for name, part in other.modules.items():
            self.modules.setdefault(name, Proven()).add(part.ranges(), part.trusted)

    # --- as a file ----------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """The file: see `trust.column_file`."""
        modules = sorted((name, part) for name, part in self.modules.items() if len(part))
        named = [(name, part.columns()) for name, part in [("", self.text), *modules]]
        head = {
            "format": FORMAT,
            "build_id": self.key.build_id,
            "policy": self.key.policy,
            "release": self.key.release,
            "texts": [[name, len(starts), len(trusted)] for name, (starts, _ends, trusted) in named],
        }
        return column_file.pack(_MAGIC, head, (column for _name, columns in named for column in columns))


def parse(data: bytes, name: str) -> Memo:
    """Read what `dump` wrote. MemoError names `name` and what is wrong."""
    if not data.startswith(_MAGIC):
        raise MemoError(f"{name}: not a memo")
    try:
        record, numbers = column_file.unpack(_MAGIC, data)
        if record["format"] != FORMAT:
            raise MemoError(f"{name}: a memo of format {record['format']}; this program uses {FORMAT}")
        key = MemoKey(record["build_id"], record["policy"], record["release"])
        if not all(isinstance(part, str) for part in (key.build_id, key.policy, key.release)):
            raise TypeError
        memo = _parse_texts(key, record["texts"], column_file.ColumnReader(numbers))
    except (ValueError, KeyError, TypeError, OverflowError):
        raise MemoError(f"{name}: corrupt; it is ignored. Remove it with 'hb memo clear'") from None
    memo.mark_stored()
    return memo


def _parse_texts(key: MemoKey, texts: list[tuple[str, int, int]], numbers: column_file.ColumnReader) -> Memo:
    """The memo whose texts are `(name, ranges, trusted fields)`, the kernel's own without a name. ValueError,
    TypeError."""
    memo = Memo(key)
    for name, ranges, trusted in texts:
        if not isinstance(name, str):
            raise TypeError
        part = memo.modules.setdefault(name, Proven()) if name else memo.text
        starts, ends = numbers.take("I", ranges), numbers.take("I", ranges)
        part.add(zip(starts, ends, strict=True), numbers.take("I", trusted))
    numbers.finish()
    return memo


def memo_path(folder: Path, key: MemoKey) -> Path:
    """Where the memo of a stored kernel lies: in its folder, named by the policy and the format."""
    return folder / f"memo-{FORMAT}-{key.policy}"


def load(folder: Path, key: MemoKey) -> Memo:
    """The stored memo of a kernel; an empty one if there is none. MemoError if it is damaged or belongs to
    another kernel or policy."""
    path = memo_path(folder, key)
    try:
        if path.stat().st_size > _MAX_FILE:
            raise MemoError(f"{path}: not a memo")
        memo = parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        return Memo(key)
    except OSError as error:
        raise MemoError(f"{path}: cannot be read ({error.strerror}); it is ignored") from None
    if memo.key != key:
        raise MemoError(
            f"{path}: a memo of another kernel or policy; it is ignored. Remove it with 'hb memo clear'"
        )
    return memo


def save(folder: Path, memo: Memo) -> bool:
    """Store what was added to `memo`; False if the store cannot be written."""
    return not memo.changed or add(folder, memo)


def add(folder: Path, memo: Memo) -> bool:
    """Merge `memo` and what is stored, and store the result; False if the store cannot be written. A damaged
    file is replaced."""
    path = memo_path(folder, memo.key)
    try:
        with _locked(folder):
            with suppress(MemoError):
                memo.merge(load(folder, memo.key))
            files.write_atomically(path, memo.dump())
    except OSError:
        return False
    memo.mark_stored()
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with its process."""
    handle = os.open(folder / ".memo-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
