"""What the messages of a netlink answer say, up to where the kernel's list leads back into itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import read_answer

T = TypeVar("T")


def answers(
    source: str, ask: Callable[[], bytes], read: Callable[[bytes], Iterable[tuple[T | ParseError, Source]]]
) -> Iterator[tuple[T | Unavailable, tuple[Source, ...]]]:
    """What `read` makes of the messages that `ask` is given by `source`, with where each stands; and at the
    end why they are not all."""
    data, gap = read_answer(source, ask)
    seen = set()
    for found, place in read(data):
        if gap and found in seen:
            break
        if gap:
            seen.add(found)
        yield Unavailable(str(found)) if isinstance(found, ParseError) else found, (place,)
    if gap:
        yield gap, ()
