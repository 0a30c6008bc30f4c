"""Which bytes of an answer of the kernel's a value was read from: pure functions on a file's bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Source(NamedTuple):
    """Bytes that a value was read from: `[start, end)` of what was read from `path` (end None: all of it).
    For an answer that does not come from a file `path` is the call: "uname", "sysinfo", "lstat /proc/1"."""

    path: str
    start: int = 0
    end: int | None = None


LSTAT_UID = (28, 32)
"""`st_uid` in `struct stat` (arch/x86/include/uapi/asm/stat.h)."""


def stat_fields(path: str, data: bytes, numbers: tuple[int, ...]) -> Iterator[Source]:
    """The name and the fields of these numbers (counted from 1, as in proc(5)) of /proc/PID/stat."""
    opening, closing = data.find(b"(") + 1, data.rfind(b")")
    if not 0 < opening <= closing:
        return
    yield Source(path, opening, closing)
    for number, found in enumerate(re.finditer(rb"\S+", data[closing + 1 :]), 3):
        if number in numbers:
            yield Source(path, closing + 1 + found.start(), closing + 1 + found.end())


def status_values(path: str, data: bytes, keys: tuple[bytes, ...]) -> Iterator[Source]:
    """The first word behind each of these keys of /proc/PID/status; behind `Uid` the second, the effective
    one."""
    for key in keys:
        word = rb"\S+\s+(\S+)" if key == b"Uid" else rb"(\S+)"
        found = re.search(rb"^" + key + rb":\s*" + word, data, re.MULTILINE)
        if found:
            yield Source(path, found.start(1), found.end(1))


def split_lines(data: bytes) -> list[bytes]:
    """The lines of a file, without their newlines. Nothing but a newline ends one: the kernel escapes it in
    the names that it writes, and leaves carriage returns and other characters, at which `splitlines` of bytes
    or of text would break a line, as they are (fs/seq_file.c, `mangle_path`)."""
    found = data.split(b"\n")
    return found if found[-1] else found[:-1]


def lines(path: str, data: bytes) -> Iterator[tuple[bytes, Source]]:
    """Each line of a file, without its newline, and where it stands."""
    start = 0
    for line in split_lines(data):
        end = min(start + len(line) + 1, len(data))
        yield line, Source(path, start, end)
        start = end
