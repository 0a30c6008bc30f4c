"""The lines of the kernel's tables of sockets, up to where a table leads back into itself, and without the
records that the kernel could not write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from errno import ENOENT
from typing import TypeVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile, MissingRecords
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

T = TypeVar("T")

_NUMBER = re.compile(rb"^ *\d+: ")
"""Of a line, in most tables."""


def table_lines(
    kernel: GuestKernel, path: str, head: int = 1
) -> Iterator[tuple[bytes, Source] | Unavailable]:
    """The lines of a table of /proc/net behind its `head` lines of titles, each with where it stands; last of
    all why there are no more, if the table could not be read to its end. A table that this kernel does not
    have is empty."""
    gap = None
    is_cyclic = False
    try:
        data = kernel.files.read(path)
    except EndlessFile as error:
        data, gap = error.partial, Unavailable(f"{path}: the kernel's list leads back into itself")
        is_cyclic = True
    except MissingRecords as error:
        data, gap = error.partial, why(path, error)
    except UNREADABLE as error:
        if not isinstance(error, OSError) or error.errno != ENOENT:
            yield why(path, error)
        return
    seen: set[bytes] = set()
    for number, (line, source) in enumerate(lines(path, data)):
        if number < head:
            continue
        if is_cyclic:
            content = _NUMBER.sub(b"", line, count=1)  # it counts on in a circle
            if content in seen:
                break
            seen.add(content)
        yield line, source
    if gap:
        yield gap


def parsed_lines(
    kernel: GuestKernel, path: str, parse: Callable[[bytes], T], head: int = 1
) -> Iterator[tuple[T | Unavailable, tuple[Source, ...]]]:
    """What `parse` makes of each of these lines, or why nothing, and where the line stands; what is said of
    the whole table stands nowhere."""
    for item in table_lines(kernel, path, head):
        if isinstance(item, Unavailable):
            yield item, ()
            continue
        line, source = item
        try:
            yield parse(line), (source,)
        except ParseError as error:
            yield why(path, error), (source,)
