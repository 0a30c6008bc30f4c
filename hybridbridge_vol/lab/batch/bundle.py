"""A stored kernel as bytes, for a machine that does not share the store: its entry, and its memos.

The entry never changes and is sent once; memos go both ways, whenever something new is proven.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.errors import MemoError, StoreError
from hybridbridge_vol.trust.files import write_sparse

_NAME = re.compile(r"(?:boot-[0-9a-f]+/)?[A-Za-z0-9][A-Za-z0-9.-]*")
"""Paths of an entry's files: none leads out of its directory."""
_MEMOS = "memo-*"
_MAX_FILE = 1 << 30
"""Bytes of the largest file that is accepted."""

Memos = dict[str, bytes]
"""The memo files of an entry, by name."""


def checksum_of(entry: Path) -> str | None:
    """A checksum that differs between two entries of the same name; None if there is no entry."""
    try:
        return f"{zlib.crc32((entry / 'kernel.json').read_bytes()):08x}"
    except OSError:
        return None


def pack_entry(entry: Path) -> bytes:
    """All files of an entry except its memos."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(entry.rglob("*")):
            name = path.relative_to(entry).as_posix()
            if path.is_file() and _NAME.fullmatch(name) and not path.match(_MEMOS):
                archive.write(path, name)
    return packed.getvalue()


def unpack_entry(packed: bytes, entry: Path) -> None:
    """Create the entry, all of it or nothing; an existing one is left as it is. StoreError."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".new-"))
        try:
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                for item in archive.infolist():
                    if not _NAME.fullmatch(item.filename) or item.file_size > _MAX_FILE:
                        raise StoreError(f"{entry}: what was sent is not a stored kernel ({item.filename!r})")
                    path = folder / item.filename
                    path.parent.mkdir(exist_ok=True)
                    write_sparse(path, memoryview(archive.read(item)))
            try:
                os.rename(folder, entry)
            except OSError:
                if not entry.is_dir():
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{entry}: cannot be created ({error})") from None


def read_memos(entry: Path) -> Memos:
    """The memos of an entry."""
    return {path.name: path.read_bytes() for path in entry.glob(_MEMOS)}


def add_memos(entry: Path, sent: Memos) -> None:
    """Merge memos from another machine; what is not a memo of this program is ignored."""
    for name, data in sent.items():
        try:
            memo = memo_file.parse(data, name)
        except MemoError:
            continue
        if memo_file.memo_path(entry, memo.key).name == name:
            memo_file.add(entry, memo)
