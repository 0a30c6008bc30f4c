"""Where on its disk the missing part of a file lies, and reading it from an image of that disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.file_content import MissingRange
from hybridbridge_vol.guest.file_extents import Extent


class DiskRange(NamedTuple):
    """A range of a file, and the offset of its first byte on the device of its file system. Bytes."""

    offset: int
    size: int
    device_offset: int


def on_disk(missing: Iterable[MissingRange], extents: Iterable[Extent]) -> Iterator[DiskRange]:
    """The parts of what is missing that the file system's own map places on its device."""
    known = [extent for extent in extents if extent.is_plain]
    for item in missing:
        for extent in known:
            start = max(item.offset, extent.offset)
            end = min(item.offset + item.size, extent.offset + extent.size)
            if start < end:
                yield DiskRange(start, end - start, extent.device_offset + start - extent.offset)


@dataclass(frozen=True)
class Disk:
    """An image of the device of one file system. `start`: where in it the device begins, in bytes."""

    mount: str
    path: Path
    start: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`MOUNT=FILE` or `MOUNT=FILE@OFFSET`. OptionError."""
        mount, equals, rest = text.partition("=")
        path, _at, offset = rest.rpartition("@") if "@" in rest else (rest, "", "0")
        if not equals or not mount.startswith("/") or not path or not offset.isdecimal():
            raise OptionError(f"--disk: write MOUNT=FILE or MOUNT=FILE@OFFSET, not {text!r}")
        if not Path(path).is_file():
            raise OptionError(f"--disk: {path}: not a file")
        return cls(mount.rstrip("/") or "/", Path(path), int(offset))

    def read(self, wanted: DiskRange) -> bytes:
        """The bytes of a range; fewer if the image ends before."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, wanted.size, self.start + wanted.device_offset)
        finally:
            os.close(fd)
