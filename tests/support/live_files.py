"""The files of the machine the tests run on, and what takes the place of its answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Self

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import Piece, PieceKind
from hybridbridge_vol.guest.file_extents import Extent
from hybridbridge_vol.guest.values import Question, Stat, Unmounted
from hybridbridge_vol.guest.windows import window

Answers = Mapping[str, bytes | Exception]
"""What takes the place of this machine's answer: by path, or by call and path ("readlink /proc/1/exe"); a
directory's names are lines. An exception is raised by that call."""


class Answering:
    """Answers that take the place of this machine's. `calls` are the calls that were made."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.calls: list[tuple[str, str]] = []

    def replaced(self, call: str, path: str) -> bytes | None:
        self.calls.append((call, path))
        content = self.answers.get(f"{call} {path}", self.answers.get(path))
        if isinstance(content, Exception):
            raise content
        return content


class LiveFiles(Answering):
    """This machine's /proc and /sys."""

    process = "/proc/self"

    @property
    def of_the_kernel(self) -> Self:
        return self

    def expect(self, questions: Iterable[Question]) -> None: ...

    def read(self, path: str) -> bytes:
        content = self.replaced("read", path)
        if content is not None:
            return content
        with open(path, "rb") as file:
            return file.read()

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        content = self.replaced("read_at", path)
        if content is not None:
            return content[offset : offset + size]
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), min(size, 1 << 20), offset)

    def pieces(self, path: str) -> Iterator[Piece]:
        data = self.read(path)
        yield Piece(PieceKind.DATA, 0, len(data), data)

    def window(self, path: str, offset: int, size: int) -> Iterator[Piece]:
        return window(partial(self.read_at, path), offset, size)

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        self.replaced("attributes", path)
        seen = os.stat(path) if follow else os.lstat(path)
        return FileAttributes(
            mode=seen.st_mode,
            ino=seen.st_ino,
            dev=seen.st_dev,
            rdev=seen.st_rdev,
            nlink=seen.st_nlink,
            uid=seen.st_uid,
            gid=seen.st_gid,
            size=seen.st_size,
            blocks=seen.st_blocks,
            atime=seen.st_atime,
            btime=None,
            ctime=seen.st_ctime,
            mtime=seen.st_mtime,
        )

    def has_size(self, path: str) -> bool:
        return not path.startswith(("/proc/", "/sys/"))

    def unmounted(self, path: str) -> None:
        return None

    def all_unmounted(self) -> list[Unmounted]:
        return []

    def attributes_in(self, path: str, names: Iterable[str]) -> dict[str, FileAttributes]:
        return {}

    def whole_in(self, path: str, sizes: Mapping[str, int]) -> set[str]:
        return set()

    def cached_bytes(self, path: str, size: int | None = None, by_reading: bool = False) -> int:
        return len(self.read(path))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self.read_at(path, offset, size)

    def extents(self, path: str) -> list[Extent]:
        return []

    def xattrs(self, path: str) -> dict[str, bytes]:
        self.replaced("xattrs", path)
        return {name: os.getxattr(path, name) for name in os.listxattr(path)}

    def listdir(self, path: str) -> list[str]:
        content = self.replaced("listdir", path)
        return os.listdir(path) if content is None else content.decode().splitlines()

    def readlink(self, path: str) -> str:
        self.replaced("readlink", path)
        return os.readlink(path)

    def stat(self, path: str, follow: bool = False) -> Stat:
        self.replaced("stat", path)
        seen = os.stat(path) if follow else os.lstat(path)
        return Stat(
            mode=seen.st_mode,
            ino=seen.st_ino,
            dev=seen.st_dev,
            nlink=seen.st_nlink,
            uid=seen.st_uid,
            gid=seen.st_gid,
            size=seen.st_size,
            mtime=seen.st_mtime,
            rdev=seen.st_rdev,
        )
