"""What the objects of `ip` share: the question to the kernel, the names of interfaces, common columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TypeVar

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.rtnetlink import AF_INET, AF_INET6, parsed, request_body
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Options
from hybridbridge_vol.tools.network.answers import answers
from hybridbridge_vol.tools.network.link_answers import names_by_index
from hybridbridge_vol.tools.network.links import Found, all_links

T = TypeVar("T")
FAMILIES = {AF_INET: "inet", AF_INET6: "inet6"}
BITS = {AF_INET: 32, AF_INET6: 128}

IFINDEX = Column("IFINDEX", "int", "number of the interface")
IFACE = Column(
    "IFACE", "str", "interface; @: the one it lies on or is paired with (@if: in another namespace)"
)
FAMILY = Column("FAMILY", "str", "link/ and the kind of hardware, inet or inet6")
ADDRESS = Column(
    "ADDRESS", "str", "hardware address, or address with its prefix length; peer: the other end's"
)
BRD = Column("BRD", "str", "broadcast address")
SCOPE = Column("SCOPE", "str", "global, site, link, host")
FLAGS = Column(
    "FLAGS",
    "str",
    "as ip shows them: of a link UP, LOWER_UP, …; of an address dynamic, secondary, tentative, …",
)
STATE = Column("STATE", "str", "UP, DOWN, UNKNOWN, …")
MTU = Column("MTU", "int", "largest packet in bytes")
GROUP = Column("GROUP", "str", "group of interfaces")
QLEN = Column("QLEN", "int", "packets that can wait to be sent")
MORE = Column("MORE", "str", "attributes that have no column: their names and values; unknown ones by number")
QDISC = Column("QDISC", "str", "queueing discipline")


Rows = Iterator[tuple[dict[str, Cell] | Unavailable, tuple[Source, ...]]]
"""The cells of a row by their columns' names, or why there are none, and where they stand."""


class View:
    """The kernel, what was asked for, and the interfaces' names."""

    def __init__(self, kernel: GuestKernel, options: Options) -> None:
        self.kernel = kernel
        self.all = bool(options["all"])
        self.families = [AF_INET] * options["inet"] + [AF_INET6] * options["inet6"] or [AF_INET, AF_INET6]

    @cached_property
    def links(self) -> list[Found]:
        return all_links(self.kernel)

    @cached_property
    def _names(self) -> dict[int, str]:
        return names_by_index(self.kernel)

    def name(self, ifindex: int | None) -> str | None:
        return None if ifindex is None else self._names.get(ifindex, f"if{ifindex}")

    def index_name(self, ifindex: int) -> str:
        """The name of an interface; `if7` for one that is not here."""
        return self._names.get(ifindex, f"if{ifindex}")

    def answers(
        self, kind: int, parse: Callable[[bytes], T], body: Callable[[int], bytes] | None = None
    ) -> Iterator[tuple[T | Unavailable, tuple[Source, ...]]]:
        """What the kernel answers of each family, or why it does not; `body` makes the request's of the
        family, by default one for all entries."""
        for family in self.families:
            request = request_body(kind, family) if body is None else body(family)
            yield from answers(
                "rtnetlink",
                partial(self.kernel.routes.dump, kind, request),
                lambda data: parsed(kind, data, parse),
            )


def network(address: str | None, prefix: int, family: int, otherwise: str) -> str:
    """An address with its prefix length, if that is not all of it, as ip writes networks."""
    if address is None:
        return otherwise
    return address if prefix == BITS.get(family) else f"{address}/{prefix}"
