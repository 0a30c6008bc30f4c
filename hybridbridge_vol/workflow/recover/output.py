"""Where recovered files go: a folder, or a tar archive.

Names come from the guest and are hostile: none leads out of the output, and neither links nor devices are
made. A file of which a part is missing lies below `incomplete`, where no name of the guest's can meet
a complete file's.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from hybridbridge_vol.errors import RecoverError
from hybridbridge_vol.workflow.recover.content import RecoveredContent, Segment

NAME_MAX = 255
"""Bytes of a name on most file systems (include/uapi/linux/limits.h)."""
_SHORTENED = 200
FILES, DELETED, INODES, INCOMPLETE = "files", "deleted", "inodes", "incomplete"
_TAR_BLOCK = tarfile.BLOCKSIZE


class Target(Protocol):
    """Takes recovered files."""

    folder: Path
    """Where temporary files may lie: on the file system of the output."""

    def take(self, name: str, content: RecoveredContent, mode: int, mtime: float) -> str:
        """Store a file under a safe relative name, and take its temporary file away; the name it got."""

    def close(self) -> None:
        """Everything is stored."""


def safe_name(path: str) -> str:
    """The relative name in the output of a path of the guest. RecoverError if it can have none."""
    parts = [part for part in path.split("/") if part]
    if not parts or any(part in (".", "..") or "\0" in part for part in parts):
        raise RecoverError(f"{path}: not a path that can be stored")
    return "/".join(_fitting(part) for part in parts)


def _fitting(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) <= NAME_MAX:
        return name
    return f"{os.fsdecode(raw[:_SHORTENED])}-{hashlib.sha256(raw).hexdigest()[:16]}"


class FolderTarget:
    """A folder: files lie below it by their paths, sparse where they have holes."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecoverError(f"{folder}: {error.strerror}; name a folder that can be written to") from None
        self.folder = folder

    def take(self, name: str, content: RecoveredContent, mode: int, mtime: float) -> str:
        """See `Target`. Nobody but the examiner may read it, and nobody can execute it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with content.file.open("rb") as file:  # by the descriptor: a sandbox refuses it by name
            os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IWUSR)
            os.utime(file.fileno(), (mtime, mtime))
        content.file.replace(path)
        return name

    def close(self) -> None:
        """See `Target`."""


class TarTarget:
    """A tar archive; files with holes or missing parts are stored in the sparse form of GNU tar (PAX 1.0)."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        try:
            self._tar = tarfile.open(self._partial, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        except OSError as error:
            raise RecoverError(f"{path}: {error.strerror}; name a file that can be written") from None

    def take(self, name: str, content: RecoveredContent, mode: int, mtime: float) -> str:
        """See `Target`."""
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = mode & 0o666, mtime
        with content.file.open("rb") as file:
            if content.segments == ([Segment(0, content.size)] if content.size else []):
                info.size = content.size
                self._tar.addfile(info, file)
            else:
                self._add_sparse(info, content, file)
        content.file.unlink()
        return name

    def _add_sparse(self, info: tarfile.TarInfo, content: RecoveredContent, file: BinaryIO) -> None:
        """GNU tar manual, "PAX Format, Version 1.0": the map stands in front of the data."""
        segments = [*content.segments, Segment(content.size, 0)]
        numbers = [len(segments), *(number for item in segments for number in (item.offset, item.size))]
        head = "".join(f"{number}\n" for number in numbers).encode()
        head += bytes(-len(head) % _TAR_BLOCK)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": info.name,
            "GNU.sparse.realsize": str(content.size),
        }
        info.size = len(head) + content.recovered_bytes
        self._tar.addfile(info, cast(BinaryIO, _Chained(head, file, content.segments)))

    def close(self) -> None:
        """The archive appears under its name when it is whole."""
        self._tar.close()
        self._partial.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._tar.close()
        self._partial.unlink(missing_ok=True)


class _Chained(io.RawIOBase):
    """The bytes of a head, and then those of the segments of a file."""

    def __init__(self, head: bytes, file: BinaryIO, segments: list[Segment]) -> None:
        self._parts = self._read_parts(head, file, segments)
        self._rest = b""

    @staticmethod
    def _read_parts(head: bytes, file: BinaryIO, segments: list[Segment]) -> Iterator[bytes]:
        yield head
        for segment in segments:
            file.seek(segment.offset)
            left = segment.size
            while left and (data := file.read(min(left, shutil.COPY_BUFSIZE))):  # type: ignore[attr-defined]
                left -= len(data)
                yield data

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            part = next(self._parts, b"")
            if not part:
                break
            self._rest += part
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken


def target_for(out: Path) -> FolderTarget | TarTarget:
    """By the name: an archive if it ends in `.tar`."""
    return TarTarget(out) if out.suffix == ".tar" else FolderTarget(out)
