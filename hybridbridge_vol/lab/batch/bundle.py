"""A stored kernel as bytes, for a machine that does not share the store: its entry without the memos, and the
memos.

Memos go both ways, time and again; the entry, which never changes, goes once.
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

from hybridbridge_vol.bridge import memo as memos
from hybridbridge_vol.errors import MemoError, StoreError
from hybridbridge_vol.trust.files import write_sparse

_NAME = re.compile(r"(?:boot-[0-9a-f]+/)?[A-Za-z0-9][A-Za-z0-9.-]*")
"""Files of an entry: none leads out of it."""
_MEMOS = "memo-*"
_MAX_FILE = 1 << 30

Memos = dict[str, bytes]
"""The memo files of an entry by name."""


def checksum_of(entry: Path) -> str | None:
    """What tells an entry from another of the same name; None if there is none."""
    try:
        return f"{zlib.crc32((entry / 'kernel.json').read_bytes()):08x}"
    except OSError:
        return None


def pack_entry(entry: Path) -> bytes:
    """All files of an entry but its memos."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(entry.rglob("*")):
            name = path.relative_to(entry).as_posix()
            if path.is_file() and _NAME.fullmatch(name) and not path.match(_MEMOS):
                archive.write(path, name)
    return packed.getvalue()


def unpack_entry(packed: bytes, entry: Path) -> None:
    """Make the entry anew, all of it or nothing; one that is there stays. StoreError if that cannot be
    done."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".new-"))
        try:
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                for item in archive.infolist():
                    if not _NAME.fullmatch(item.filename) or item.file_size > _MAX_FILE:
                        raise StoreError(f"{entry}: what was sent is no stored kernel ({item.filename!r})")
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
        raise StoreError(f"{entry}: cannot be made ({error})") from None


def read_memos(entry: Path) -> Memos:
    """The memos of an entry."""
    return {path.name: path.read_bytes() for path in entry.glob(_MEMOS)}


def add_memos(entry: Path, sent: Memos) -> None:
    """Add what others have proven; what is no memo of this program is passed over."""
    for name, data in sent.items():
        try:
            memo = memos.parse(data, name)
        except MemoError:
            continue
        if memos.memo_path(entry, memo.key).name == name:
            memos.add(entry, memo)
