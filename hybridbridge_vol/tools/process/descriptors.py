"""The descriptors of all processes, in groups of about the same size: one process may have more of them than
all others together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import OpenDescriptor, Question
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.tools.process.listing import files_of, in_parts, numbers, processes

T = TypeVar("T")

AT_ONCE = 512
"""Descriptors that are asked for together."""
_TO_SHARE = 32
"""Groups that are worth a forked worker, which costs 80 ms of processor time: a group takes 10 ms."""
_WEIGHT_OF_PROCESS = 8
"""What a process counts beside its descriptors."""


class Share(NamedTuple):
    """Some of a process's descriptors, or why they cannot be listed. A process has at least one share:
    `first` and `last` say whether it is the first and the last one."""

    pid: int
    descriptors: list[int]
    read_error: Unavailable | None = None
    first: bool = True
    last: bool = True


def in_shares(kernel: GuestKernel, pids: list[int]) -> list[list[Share]]:
    """The descriptors of these processes, in their order, in groups of about `AT_ONCE`."""
    known = dict[int, list[int] | Unavailable](kernel.files.descriptor_numbers(pids))
    missing = [pid for pid in pids if pid not in known]
    for part in kernel.workers.map(partial(_listed, kernel.files), in_parts(missing)):
        known |= part
    return list(_grouped(share for pid in pids for share in _shares(pid, known[pid])))


def taken(
    kernel: GuestKernel, take: Callable[[str], T | None]
) -> Iterator[tuple[list[tuple[int, int, T]], Unavailable | None]]:
    """`(process, descriptor, what it is)` of all descriptors of all processes of whose target `take` makes
    something, in groups, each with why some of it may be missing."""
    try:
        pids = processes(kernel)
    except UNREADABLE as error:
        yield [], why("/proc", error)
        return
    lacking = kernel.allowance.lacking
    ask = partial(_taken, kernel.files, take)
    yield from kernel.workers.map(ask, in_shares(kernel, pids), least=_TO_SHARE)
    if lacking:
        yield [], Unavailable(lacking)


def _taken(
    files: Files, take: Callable[[str], T | None], shares: list[Share]
) -> tuple[list[tuple[int, int, T]], Unavailable | None]:
    gap = next((share.read_error for share in shares if share.read_error), None)
    found = []
    for pid, fd, target, _seen in targets(files, shares):
        if isinstance(target, Unavailable):
            gap = gap or target
            continue
        thing = take(target)
        if thing is not None:
            found.append((pid, fd, thing))
    return found, gap


def targets(
    files: Files, shares: list[Share]
) -> Iterator[tuple[int, int, str | Unavailable, OpenDescriptor | None]]:
    """`(process, descriptor, what it leads to, what else is known of it)` of all descriptors of a group."""
    wanted = [(share.pid, fd) for share in shares for fd in share.descriptors]
    known = files.descriptors(wanted)
    files.expect(Question("readlink", f"/proc/{pid}/fd/{fd}") for pid, fd in wanted if (pid, fd) not in known)
    for pid, fd in wanted:
        seen = known.get((pid, fd))
        path = f"/proc/{pid}/fd/{fd}"
        yield pid, fd, attempt(path, partial(files.readlink, path)) if seen is None else seen.target, seen


def _listed(files: Files, pids: list[int]) -> dict[int, list[int] | Unavailable]:
    files.expect(files_of(pids, "fd", kind="listdir"))
    return {pid: attempt(f"/proc/{pid}/fd", partial(_descriptors, files, pid)) for pid in pids}


def _descriptors(files: Files, pid: int) -> list[int]:
    return numbers(files.listdir(f"/proc/{pid}/fd"))


def _shares(pid: int, found: list[int] | Unavailable) -> Iterator[Share]:
    if isinstance(found, Unavailable):
        yield Share(pid, [], found)
        return
    for start in range(0, len(found) or 1, AT_ONCE):
        end = start + AT_ONCE
        yield Share(pid, found[start:end], None, start == 0, end >= len(found))


def _grouped(shares: Iterable[Share]) -> Iterator[list[Share]]:
    group: list[Share] = []
    weight = 0
    for share in shares:
        group.append(share)
        weight += len(share.descriptors) + _WEIGHT_OF_PROCESS
        if weight >= AT_ONCE:
            yield group
            group, weight = [], 0
    if group:
        yield group
