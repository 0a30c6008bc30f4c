"""The descriptors of all processes, in shares of about the same size: one process may have more of them than
all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.process.listing import files_of, in_parts, numbers

AT_ONCE, _BESIDE = 512, 8
"""Descriptors that are asked for together, and how many of them a process by itself is worth."""


class Share(NamedTuple):
    """Some of a process's descriptors, or why they cannot be listed. A process has one share at least: its
    `first` and its `last` one."""

    pid: int
    descriptors: list[int]
    gap: Unavailable | None = None
    first: bool = True
    last: bool = True


def in_shares(kernel: GuestKernel, pids: list[int]) -> list[list[Share]]:
    """The descriptors of these processes, in their order, in groups of about `AT_ONCE`."""
    return list(_grouped(chain.from_iterable(kernel.workers.map(partial(_shares, kernel), in_parts(pids)))))


def _shares(kernel: GuestKernel, pids: list[int]) -> list[Share]:
    kernel.files.expect(files_of(pids, "fd", kind="listdir"))
    shares = []
    for pid in pids:
        listing = f"/proc/{pid}/fd"
        try:
            found = numbers(kernel.files.listdir(listing))
        except UNREADABLE as error:
            shares.append(Share(pid, [], why(listing, error)))
            continue
        for start in range(0, len(found) or 1, AT_ONCE):
            end = start + AT_ONCE
            shares.append(Share(pid, found[start:end], None, start == 0, end >= len(found)))
    return shares


def _grouped(shares: Iterable[Share]) -> Iterator[list[Share]]:
    group: list[Share] = []
    weight = 0
    for share in shares:
        group.append(share)
        weight += len(share.descriptors) + _BESIDE
        if weight >= AT_ONCE:
            yield group
            group, weight = [], 0
    if group:
        yield group
