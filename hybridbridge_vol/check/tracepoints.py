"""Tracepoints whose events the kernel itself records: no hook, but a difference in the key of a static call.

A tracepoint calls the function in `__SCK__tp_func_NAME`: while nobody listens an iterator over its list of
functions, while one function is registered that one (kernel/tracepoint.c, `tracepoint_update_call`). The
kernel registers functions of its own to record events, and drivers ask it to (`trace_array_set_clr_event`);
every other function, that of a BPF program or of a performance counter included, watches the kernel and is
reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PREFIX = "__SCK__tp_func_"
_RECORDER = "trace_event_raw_event_"
_WORDS = 10
"""Of `struct tracepoint` that are searched for its list of functions (include/linux/tracepoint-defs.h)."""
Word = Callable[[int], int | None]


class Package(Protocol):
    """What a trusted file, the kernel's or a module's, says of its own. Addresses are the snapshot's."""

    def address_of(self, name: str) -> int | None:
        """Where a symbol lies."""

    def refers(self, name: str, other: str) -> bool:
        """Whether one of its variables holds the address of another."""

    def registers(self, function_vaddr: int, tracepoint_vaddr: int) -> bool:
        """Whether its code refers to both in one function."""


def is_recorded(key: str, function_vaddr: int, function: str | None, package: Package, word: Word) -> bool:
    """Whether a tracepoint's key holds a function, named `function`, that the kernel registered to record its
    events."""
    name = key.removeprefix(PREFIX)
    tracepoint_vaddr = package.address_of(f"__tracepoint_{name}")
    if name == key or function is None or tracepoint_vaddr is None:
        return False
    key_vaddr = package.address_of(key)
    return _is_registered(tracepoint_vaddr, function_vaddr, key_vaddr, word) and (
        function == _RECORDER + name
        or function.startswith(_RECORDER)
        and package.refers(f"event_{name}", f"event_class_{function.removeprefix(_RECORDER)}")
        or package.registers(function_vaddr, tracepoint_vaddr)
    )


def _is_registered(tracepoint_vaddr: int, function_vaddr: int, key_vaddr: int | None, word: Word) -> bool:
    """Whether the tracepoint's own list begins with the function (`struct tracepoint_func`). It refers to its
    key, too, which proves nothing."""
    lists = {word(tracepoint_vaddr + 8 * number) for number in range(_WORDS)} - {key_vaddr}
    return any(word(start) == function_vaddr for start in lists if start is not None and start >> 63)
