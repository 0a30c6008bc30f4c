"""What /proc/net does not show of sockets that it lists: marks, control groups, congestion control, memory,
what TCP keeps of a connection; by sock_diag."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.netlink.attribute_text import joined
from hybridbridge_vol.netlink.inet_diag import DETAILS, InetDiag, parse_inet_diag
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.sock_diag import OF_FILES, OF_FILES_WHOLE, SOCK_DIAG_BY_FAMILY
from hybridbridge_vol.netlink.tcp_info import memory_words, tcp_words
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.network.link_answers import names_by_index
from hybridbridge_vol.tools.network.ss.cells import endpoint_text

Key = tuple[int, str, str]
"""Inode and both ends, as ss writes them: a socket without an inode is known by its ends."""


_INFO, _CONGESTION, _MEMORY, _V6ONLY = 2, 4, 7, 11
_OF_OTHER_OPTIONS = (1, _INFO, 3, _MEMORY)
"""INET_DIAG_MEMINFO, INFO, VEGASINFO, SKMEMINFO (include/uapi/linux/inet_diag.h)."""


class Details(NamedTuple):
    """Of one socket: what has no column, what TCP keeps, its memory; `tx_queue` as `InetDiag` has it;
    `only_six`: it takes nothing of IPv4 (IPV6_V6ONLY)."""

    more: str | None
    tcp: Cell
    memory: Cell
    tx_queue: int
    only_six: bool


def inet_details(kernel: GuestKernel, file: str, whole: bool) -> dict[Key, Details] | Unavailable:
    """Of the sockets of a file ("tcp6"), or why they are not known. Empty for a file without such a table.
    Only what is asked for as a `whole` has what TCP keeps, and memory."""
    table = (OF_FILES_WHOLE if whole else OF_FILES).get(file)
    if table is None:
        return {}
    source = table.source()
    try:
        data = kernel.sockets.dump(table)
    except EndlessFile as error:
        data = error.partial
    except UNREADABLE as error:
        return why(source, error)
    names = names_by_index(kernel)
    answers = (found for found, _place in parsed(source, (SOCK_DIAG_BY_FAMILY,), data, parse_inet_diag))
    return {_key(found): _details(found, names) for found in answers if not isinstance(found, ParseError)}


def _key(found: InetDiag) -> Key:
    return found.inode, endpoint_text(found.local), endpoint_text(found.remote)


def _details(found: InetDiag, names: dict[int, str]) -> Details:
    """Zeros say nothing in what has no column: no mark, no class, nothing shut down."""
    rest = [(kind, data) for kind, data in found.rest if any(data) and kind not in _OF_OTHER_OPTIONS]
    pairs = DETAILS.pairs(rest, lambda index: names.get(index, f"if{index}"))
    if found.interface:
        pairs.insert(0, ("interface", names.get(found.interface, f"if{found.interface}")))
    attributes = dict(found.rest)
    congestion = attributes.get(_CONGESTION, b"").split(b"\0")[0].decode("ascii", "backslashreplace")
    return Details(
        joined(pairs) or None,
        _words(attributes.get(_INFO), lambda data: tcp_words(data, congestion)),
        memory_of(attributes),
        found.tx_queue,
        any(attributes.get(_V6ONLY, b"")),
    )


def memory_of(attributes: Mapping[int, bytes]) -> Cell:
    """The memory of a socket, by the attributes of its message."""
    return _words(attributes.get(_MEMORY), memory_words)


def _words(data: bytes | None, form: Callable[[bytes], str]) -> Cell:
    if data is None:
        return None
    try:
        return form(data)
    except (ValueError, struct.error) as error:
        return Unavailable(f"sock_diag: {error}")
