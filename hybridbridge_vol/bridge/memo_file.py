"""The file of a memo: its format, and how several writers share it.

None of several writers loses anything: each takes the lock, reads what is stored, adds its own and puts the
result in place by a rename.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hybridbridge_vol.bridge.memo import Memo, MemoKey, Proven
from hybridbridge_vol.errors import MemoError
from hybridbridge_vol.trust import column_file, files

FORMAT = 3
"""Version of the file's form and of what SLOW-BRIDGE proves."""

_MAGIC = b"hybridbridge memo\n"
_MAX_FILE = 16 << 20


def dump(memo: Memo) -> bytes:
    """The file: see `trust.column_file`."""
    modules = sorted((name, part) for name, part in memo.modules.items() if len(part))
    named = [(name, part.columns()) for name, part in [("", memo.text), *modules]]
    head = {
        "format": FORMAT,
        "build_id": memo.key.build_id,
        "policy": memo.key.policy,
        "release": memo.key.release,
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
    """Store what is stored and `memo`, which stays as it is: a bridge shows what its memo has. False if the
    store cannot be written. A damaged file is replaced."""
    path = memo_path(folder, memo.key)
    both = Memo(memo.key)
    both.merge(memo)
    try:
        with _locked(folder):
            with suppress(MemoError):
                both.merge(load(folder, memo.key))
            files.write_atomically(path, dump(both))
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
