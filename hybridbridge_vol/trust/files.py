"""Files and folders of the store: written whole or not at all, checked against a manifest's checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.units import PAGE_SIZE

FORMAT = 2
"""Version of all that the store writes; another one is recognised before anything else is read."""

BLOCK = 16 * PAGE_SIZE
"""Unit in which memory files are sparse."""

_READ_SIZE = 1 << 20

Extents = list[tuple[int, int]]
"""`(offset, size)` ranges of a file that hold data, in file order; the rest is zeros."""

Record = dict[str, Any]
"""A JSON object."""


def manifest(record: Mapping[str, Any]) -> bytes:
    """A manifest file: the record as JSON, and a checksum of it."""
    body = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return json.dumps({"digest": hashlib.sha256(body.encode()).hexdigest(), "body": body}).encode()


def read_manifest(path: Path) -> Record:
    """The record in a manifest; StoreError names the file if it is missing, damaged or of another format."""
    try:
        outer = json.loads(path.read_bytes())
        body = outer["body"]
        if hashlib.sha256(body.encode()).hexdigest() != outer["digest"]:
            raise ValueError
        record = json.loads(body)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}); remove this entry with 'hb trust rm'"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(
            f"{path}: corrupt; remove this entry with 'hb trust rm' and add the kernel again"
        ) from None
    if record.get("format") != FORMAT:
        raise StoreError(
            f"{path}: written in store format {record.get('format')}, this version reads {FORMAT}; "
            "add the kernel again with 'hb trust add'"
        )
    return dict(record)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` so that a reader sees the old file or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_sparse(path: Path, view: memoryview) -> Extents:
    """Write `view`, leaving out its blocks of zeros; returns the extents that hold data."""
    zero = bytes(BLOCK)
    extents: Extents = []
    with open(path, "xb") as stream:
        for offset in range(0, len(view), BLOCK):
            block = bytes(view[offset : offset + BLOCK])  # bytes compare faster than views
            if block == zero[: len(block)]:
                continue
            stream.seek(offset)
            stream.write(block)
            if extents and sum(extents[-1]) == offset:
                extents[-1] = (extents[-1][0], extents[-1][1] + len(block))
            else:
                extents.append((offset, len(block)))
        stream.truncate(len(view))
    return extents


def checksum(view: memoryview, extents: Extents) -> int:
    """CRC-32 over the data extents of a sparse file."""
    value = 0
    for offset, size in extents:
        value = zlib.crc32(view[offset : offset + size], value)
    return value


def checksum_file(fd: int, extents: Extents) -> int:
    """As `checksum`, reading the file instead of mapping it, so that its pages do not count as ours."""
    value = 0
    for offset, size in extents:
        for start in range(offset, offset + size, _READ_SIZE):
            value = zlib.crc32(os.pread(fd, min(_READ_SIZE, offset + size - start), start), value)
    return value


def temporary_folder(parent: Path) -> Path:
    """A folder in `parent` that no reader takes for an entry. StoreError if it cannot be made."""
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
    except OSError as error:
        raise StoreError(
            f"{parent}: cannot be written ({error.strerror}); choose another with --store DIR"
        ) from None


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final`, which it is renamed to when the block ends without an error.

    If somebody else made `final` meanwhile, theirs stays and ours is removed. StoreError if it cannot be
    written.
    """
    temporary = temporary_folder(final.parent)
    try:
        yield temporary
        try:
            os.rename(temporary, final)
        except OSError:
            if not final.is_dir():
                raise
    except OSError as error:
        raise StoreError(f"{final}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
