"""Asking for disciplines, classes and filters of all interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.requests import NetlinkRequest
from hybridbridge_vol.netlink.traffic import (
    CLSACT_EGRESS,
    CLSACT_INGRESS,
    GETQDISC,
    GETTCLASS,
    GETTFILTER,
    INGRESS,
    NEWQDISC,
    NEWTCLASS,
    NEWTFILTER,
    Traffic,
    parse_traffic,
    request,
)
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import read_answer

Found = tuple[Traffic, Source]
MOST_PARENTS = 1 << 12
"""Disciplines and classes whose filters are asked for."""


class TrafficTables:
    """What the kernel answers, asked once; `gaps` are why some is missing."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self.gaps: list[Unavailable] = []
        self.disciplines = self._dump(request(GETQDISC), NEWQDISC)

    def classes(self) -> list[Found]:
        """Of all interfaces whose discipline is one of the kernel's, not the default one."""
        found = []
        for ifindex in dict.fromkeys(one.ifindex for one, _source in self.disciplines):
            found += self._dump(request(GETTCLASS, ifindex), NEWTCLASS)
        return found

    def filters(self) -> list[Found]:
        """Of all disciplines, in both directions where there are two, and of their classes."""
        found: list[Found] = []
        for ifindex, parent in list(dict.fromkeys(self._parents()))[:MOST_PARENTS]:
            found += self._dump(request(GETTFILTER, ifindex, parent), NEWTFILTER)
        return found

    def _parents(self) -> Iterator[tuple[int, int]]:
        for one, _source in self.disciplines:
            if one.kind == "clsact":
                yield from ((one.ifindex, parent) for parent in (CLSACT_INGRESS, CLSACT_EGRESS))
            elif one.parent == INGRESS or one.handle:
                yield one.ifindex, one.handle

    def _dump(self, asked: NetlinkRequest, kind: int) -> list[Found]:
        data, gap = read_answer(asked.source, partial(self._kernel.netlink.dump, asked))
        if gap:
            self.gaps.append(gap)
        found = []
        for one, source in parsed(asked.source, (kind,), data, parse_traffic):
            if isinstance(one, ParseError):
                self.gaps.append(Unavailable(str(one)))
            else:
                found.append((one, source))
        return found


def filters_of_all(kernel: GuestKernel) -> tuple[list[Traffic], list[Unavailable]]:
    """All filters, and why some are missing."""
    tables = TrafficTables(kernel)
    return [one for one, _source in tables.filters()], tables.gaps
