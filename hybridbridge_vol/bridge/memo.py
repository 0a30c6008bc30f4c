"""The memo: which code of the twin and of modules has been proven under taint, and the classes of static
references.

A memo belongs to one kernel build, one policy and one version of this format; another one is not used. It is
a set, so two memos of the same kernel are merged by union, and writers that meet lose nothing: each takes the
lock, reads what is there, adds its own and puts the result in place by a rename.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hybridbridge_vol.errors import MemoError
from hybridbridge_vol.trust import files
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
    """What is proven of one text: disjoint, ascending ranges of offsets from its start, and the offsets of
    the 32-bit fields of static references whose class is *trusted* (they reach the trusted kernel's object,
    not the snapshot's)."""

    def __init__(self) -> None:
        self.starts = array("I")
        self.ends = array("I")
        self.trusted: set[int] = set()
        self.changed = False

    def __len__(self) -> int:
        """Bytes of proven code."""
        return sum(self.ends) - sum(self.starts)

    def add(self, ranges: Iterable[tuple[int, int]], trusted: Iterable[int] = ()) -> None:
        """Take in `(start, end)` ranges of proven code and trusted fields."""
        new_fields = set(trusted) - self.trusted
        self.trusted |= new_fields
        incoming = [(start, end) for start, end in ranges if start < end and not self.covers(start, end)]
        if incoming:
            starts, ends = array("I"), array("I")
            for start, end in sorted([*zip(self.starts, self.ends, strict=True), *incoming]):
                if ends and start <= ends[-1]:
                    ends[-1] = max(ends[-1], end)
                else:
                    starts.append(start)
                    ends.append(end)
            self.starts, self.ends = starts, ends
        self.changed = self.changed or bool(incoming or new_fields)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Proven `(start, end)` ranges, ascending."""
        return zip(self.starts, self.ends, strict=True)

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `[start, end)` is proven."""
        place = bisect_right(self.starts, start) - 1
        return place >= 0 and end <= self.ends[place]

    def masked(self, offset: int, page: bytes | bytearray) -> bytearray:
        """The text's page at `offset` with `int3` wherever nothing is proven."""
        out = bytearray(_BREAKPOINT * len(page))
        place = bisect_left(self.ends, offset + 1)
        while place < len(self.starts) and self.starts[place] < offset + PAGE_SIZE:
            first, last = max(self.starts[place] - offset, 0), min(self.ends[place] - offset, PAGE_SIZE)
            out[first:last] = page[first:last]
            place += 1
        return out


class Memo:
    """What is proven of a kernel: of its own `text`, and of the text of its modules by `name:build id`."""

    def __init__(self, key: MemoKey) -> None:
        self.key = key
        self.text = Proven()
        self.modules: dict[str, Proven] = {}

    def of_module(self, name: str, build_id: str) -> Proven:
        """What is proven of one module's text; to be added to."""
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

    @changed.setter
    def changed(self, value: bool) -> None:
        for part in self.parts():
            part.changed = value

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
        """The file: a magic line, a line of JSON, and the numbers, sealed by a checksum."""
        named = [("", self.text), *sorted((name, part) for name, part in self.modules.items() if len(part))]
        head = json.dumps(
            {
                "format": FORMAT,
                "build_id": self.key.build_id,
                "policy": self.key.policy,
                "release": self.key.release,
                "texts": [[name, len(part.starts), len(part.trusted)] for name, part in named],
            }
        ).encode()
        numbers = [
            column
            for _name, part in named
            for column in (part.starts, part.ends, array("I", sorted(part.trusted)))
        ]
        body = head + b"\n" + b"".join(column.tobytes() for column in numbers)
        return _MAGIC + b"%08x\n" % zlib.crc32(body) + body


def parse(data: bytes, name: str) -> Memo:
    """Read what `dump` wrote. MemoError names `name` and what is wrong."""
    if not data.startswith(_MAGIC):
        raise MemoError(f"{name}: not a memo")
    seal, _, body = data[len(_MAGIC) :].partition(b"\n")
    head, _, numbers = body.partition(b"\n")
    try:
        if int(seal, 16) != zlib.crc32(body):
            raise ValueError
        record = json.loads(head)
        if record["format"] != FORMAT:
            raise MemoError(f"{name}: a memo of format {record['format']}; this program uses {FORMAT}")
        key = MemoKey(record["build_id"], record["policy"], record["release"])
        if not all(isinstance(part, str) for part in (key.build_id, key.policy, key.release)):
            raise TypeError
        memo = _parse_texts(key, record["texts"], numbers)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise MemoError(f"{name}: corrupt; it is ignored. Remove it with 'hb memo clear'") from None
    memo.changed = False
    return memo


def _parse_texts(key: MemoKey, texts: list[tuple[str, int, int]], numbers: bytes) -> Memo:
    """The memo whose texts are `(name, ranges, trusted fields)`, the kernel's own without a name. ValueError,
    TypeError."""
    values = array("I")
    values.frombytes(numbers)
    memo, at = Memo(key), 0

    def take(count: int) -> array[int]:
        nonlocal at
        if not 0 <= count <= len(values) - at:
            raise ValueError
        at += count
        return values[at - count : at]

    for name, ranges, trusted in texts:
        if not isinstance(name, str):
            raise TypeError
        part = memo.modules.setdefault(name, Proven()) if name else memo.text
        part.add(zip(take(ranges), take(ranges), strict=True), take(trusted))
    if at != len(values):
        raise ValueError
    return memo


def memo_path(folder: Path, key: MemoKey) -> Path:
    """Where the memo of a stored kernel lies: in its folder, named by the policy and the format."""
    return folder / f"memo-{FORMAT}-{key.policy}"


def load(folder: Path, key: MemoKey) -> Memo:
    """The stored memo of a kernel; an empty one if there is none. MemoError if it is damaged or another's."""
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
    """Add `memo` to what is stored; False if the store cannot be written. A damaged file is replaced."""
    if not memo.changed:
        return True
    path = memo_path(folder, memo.key)
    try:
        with _locked(folder):
            try:
                memo.merge(load(folder, memo.key))
            except MemoError:
                pass
            files.write_atomically(path, memo.dump())
    except OSError:
        return False
    memo.changed = False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock goes with its process."""
    handle = os.open(folder / ".memo-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
