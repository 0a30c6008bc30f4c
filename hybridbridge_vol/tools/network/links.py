"""The interfaces: as rtnetlink answers them, or, where a driver's code stands in the way, as /sys/class/net
has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.rtnetlink import RTM_GETLINK, Link, parse_link, parsed
from hybridbridge_vol.procfs.net_dev import IFF_UP
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.network.link_answers import (
    CLASS_NET,
    LinkAnswers,
    interface_names,
    link_answers,
    sysfs_number,
)
from hybridbridge_vol.tools.network.tables import interface_flags

IFF_LOWER_UP, IFF_DORMANT = 0x10000, 0x20000
IF_OPER = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
"""Names of /sys/class/net/*/operstate; their places are the numbers (include/uapi/linux/if.h)."""
COUNTERS = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
    "multicast", "collisions", "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors",
    "rx_fifo_errors", "rx_missed_errors", "tx_aborted_errors", "tx_carrier_errors",
)  # fmt: skip
"""Names of /sys/class/net/*/statistics, in the order of struct rtnl_link_stats64."""


class Found(NamedTuple):
    """An interface, or why it cannot be read; `gap` is why what /sys does not know (its None) is missing."""

    link: Link | Unavailable
    source: Source | None
    gap: Unavailable | None = None


def all_links(kernel: GuestKernel) -> list[Found]:
    """The interfaces by index."""
    try:
        answers = link_answers(kernel)
    except UNREADABLE as error:
        return _from_sysfs(kernel, why("rtnetlink", error))
    alone = answers.missing or answers.uncounted
    found = [
        Found(_certain(link, answers), None if alone else source)
        for link, source in parsed(RTM_GETLINK, answers.data, parse_link)
    ]
    return _in_order([*found, *(_of_sysfs(kernel, name, gap) for name, gap in answers.missing.items())])


def _certain(link: Link | ParseError, answers: LinkAnswers) -> Link | Unavailable:
    """What of an answer does not rest on a device's registers."""
    if isinstance(link, ParseError):
        return Unavailable(str(link))
    return link._replace(counters=None) if link.name in answers.uncounted else link


def _from_sysfs(kernel: GuestKernel, gap: Unavailable) -> list[Found]:
    try:
        names = interface_names(kernel)
    except UNREADABLE as error:
        return [Found(why(CLASS_NET, error), None)]
    return _in_order([_of_sysfs(kernel, name, gap) for name in names])


def _of_sysfs(kernel: GuestKernel, name: str, gap: Unavailable) -> Found:
    try:
        return Found(_sysfs_link(kernel, name), Source(f"{CLASS_NET}/{name}/ifindex"), gap)
    except UNREADABLE as error:
        return Found(why(f"{CLASS_NET}/{name}", error), None)


def _in_order(found: list[Found]) -> list[Found]:
    return sorted(found, key=lambda item: item.link.ifindex if isinstance(item.link, Link) else 0)


def _sysfs_link(kernel: GuestKernel, name: str) -> Link:
    """An interface from its files. OSError, CallRolledBack or ParseError if one that always can be read
    cannot."""

    def words(file: str) -> str:
        return text(kernel.files.read(f"{CLASS_NET}/{name}/{file}").strip())

    def number(file: str) -> int:
        try:
            return int(words(file), 0)
        except ValueError:
            raise ParseError(f"{file} is not a number") from None

    flags = interface_flags(kernel, name)
    if isinstance(flags, Unavailable):
        raise ParseError(flags.reason)
    if flags & IFF_UP:
        flags |= (IFF_LOWER_UP if _maybe(lambda: number("carrier")) else 0) | (
            IFF_DORMANT if _maybe(lambda: number("dormant")) else 0
        )
    state = words("operstate")
    peer, ifindex = _maybe(lambda: number("iflink")), number("ifindex")
    return Link(
        ifindex, name, number("type"), flags, number("mtu"), None,
        IF_OPER.index(state) if state in IF_OPER else None, _maybe(lambda: number("netdev_group")),
        _maybe(lambda: number("tx_queue_len")), words("address"), words("broadcast"),
        None if peer == ifindex else peer, None, _maybe(lambda: number("master/ifindex")), None,
    )  # fmt: skip


T = TypeVar("T")


def _maybe(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except UNREADABLE:
        return None


def counters(kernel: GuestKernel, found: Found, names: tuple[str, ...]) -> list[int | Unavailable | None]:
    """The counters of an interface of these `COUNTERS`."""
    link = found.link
    if isinstance(link, Unavailable):
        return [link for _ in names]
    if link.counters is not None:
        error_text = dict(zip(COUNTERS, link.counters, strict=False))
        return [error_text.get(name) for name in names]
    first = sysfs_number(kernel, link.name, f"statistics/{names[0]}")
    if isinstance(first, Unavailable):
        return [first for _ in names]
    return [first, *(sysfs_number(kernel, link.name, f"statistics/{name}") for name in names[1:])]
