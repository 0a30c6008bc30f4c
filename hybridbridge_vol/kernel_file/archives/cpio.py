"""Files and links of the cpio in an `.rpm`: the "newc" format.

Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, NamedTuple

from hybridbridge_vol.kernel_file.archives.member import MAX_TEXT_SIZE, Member, Wanted, from_root
from hybridbridge_vol.kernel_file.archives.streams import MAX_MEMBER_SIZE, number, read_exactly, skip

_HEADER_SIZE = 110
_MAGICS = (b"070701", b"070702")
_LAST = "TRAILER!!!"


class _Header(NamedTuple):
    """One entry: `inode` (with the device) identifies the file of hard links."""

    name: str
    inode: tuple[int, int, int]
    mode: int
    links: int
    size: int


def cpio_members(stream: IO[bytes], wanted: Wanted) -> Iterator[Member]:
    """Wanted files and links. ValueError if it is damaged, EOFError if it is truncated.

    Of several hard links to one file only the last entry carries the contents: all of them are given when it
    comes, those of an empty file at the end.
    """
    waiting: dict[tuple[int, int, int], list[Member]] = {}
    while (header := _read_header(stream)) is not None:
        is_link = stat.S_ISLNK(header.mode)
        is_wanted = (stat.S_ISREG(header.mode) or is_link) and wanted(header.name)
        names = [Member(header.name, header.mode & 0o7777, "", b"")] if is_wanted else []
        if stat.S_ISREG(header.mode) and header.links > 1:
            names = waiting.setdefault(header.inode, []) + names
            waiting[header.inode] = names if not header.size else []
        if header.links > 1 and not header.size:
            continue
        padding = -header.size % 4
        if not names:
            skip(stream, header.size + padding)
            continue
        data = read_exactly(stream, header.size, MAX_TEXT_SIZE if is_link else MAX_MEMBER_SIZE)
        skip(stream, padding)
        for member in names:
            yield replace(member, link=_text(data)) if is_link else replace(member, data=data)
    for links_to_an_empty_file in waiting.values():
        yield from links_to_an_empty_file


def _read_header(stream: IO[bytes]) -> _Header | None:
    """The next entry's header; None for the one that ends the archive."""
    raw = read_exactly(stream, _HEADER_SIZE)
    if raw[:6] not in _MAGICS:
        raise ValueError("not a newc cpio header")
    fields = [number(raw[at : at + 8], 16) for at in range(6, _HEADER_SIZE, 8)]
    inode, mode, _uid, _gid, links, _mtime, size, major, minor, _rmajor, _rminor, name_size, _sum = fields
    name = _text(read_exactly(stream, name_size, MAX_TEXT_SIZE))
    skip(stream, -(_HEADER_SIZE + name_size) % 4)
    return None if name == _LAST else _Header(from_root(name), (inode, major, minor), mode, links, size)


def _text(field: bytes) -> str:
    """A text up to its first zero."""
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
