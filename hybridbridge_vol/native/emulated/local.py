"""What the calls of an emulated program that its own kernel answers are made of: `handlers` by name."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.emulated.address_space import AddressSpace

Arguments = Sequence[int]
Handler = Callable[[Arguments], int]
"""From the six arguments to the value. OSError for an errno."""
Note = Callable[[str, str], None]
"""Something cannot be done: what, and why."""

MAX_TRANSFER = 1 << 20
"""Bytes that one call reads or writes: a program asks for the rest again."""
LONGEST = 1e6
"""Seconds that one call waits."""
_TIMESPEC = struct.Struct("<qq")


def answers(value: int) -> Handler:
    """A call that does nothing, with this answer."""
    return lambda _arguments: value


def fails(error: int) -> Handler:
    """A call that always fails."""

    def handler(_arguments: Arguments) -> int:
        raise failed(error)

    return handler


class Descriptors:
    """Which numbers are the program's: all below `first_hidden`."""

    def __init__(self, first_hidden: int) -> None:
        self.first_hidden = first_hidden

    def number(self, value: int) -> int:
        """A descriptor's number. OSError EBADF for one that cannot be the program's."""
        number = signed32(value)
        if not 0 <= number < self.first_hidden:
            raise failed(errno.EBADF)
        return number


def seconds_at(space: AddressSpace, vaddr: int, parts: int = 1_000_000_000) -> float | None:
    """The time that a `struct timespec` holds, or with `parts` of a second a `struct timeval`, or
    `LONGEST`; None if there is none. OSError."""
    if not vaddr:
        return None
    seconds, fraction = _TIMESPEC.unpack(space.read_exactly(vaddr, _TIMESPEC.size))
    if seconds < 0 or not 0 <= fraction < parts:
        raise failed(errno.EINVAL)
    return float(min(seconds + fraction / parts, LONGEST))
