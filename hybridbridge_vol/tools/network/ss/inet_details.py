"""What /proc/net does not show of sockets that it lists: marks, control groups, congestion control; by
sock_diag."""

from __future__ import annotations

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.netlink.attribute_text import joined
from hybridbridge_vol.netlink.inet_diag import DETAILS, InetDiag, parse_inet_diag
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.sock_diag import OF_FILES, SOCK_DIAG_BY_FAMILY
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.network.links import names_by_index
from hybridbridge_vol.tools.network.ss.cells import endpoint_text

Key = tuple[int, str, str]
"""Inode and both ends, as ss writes them: a socket without an inode is known by its ends."""


def inet_details(kernel: GuestKernel, file: str) -> dict[Key, str | None] | Unavailable:
    """Of the sockets of a file ("tcp6"), or why they are not known. Empty for a file without such a table."""
    table = OF_FILES.get(file)
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
    return {_key(found): _shown(found, names) for found in answers if not isinstance(found, ParseError)}


def _key(found: InetDiag) -> Key:
    return found.inode, endpoint_text(found.local), endpoint_text(found.remote)


def _shown(found: InetDiag, names: dict[int, str]) -> str | None:
    """Zeros say nothing here: no mark, no class, nothing shut down."""
    rest = [(kind, data) for kind, data in found.rest if any(data)]
    pairs = DETAILS.pairs(rest, lambda index: names.get(index, f"if{index}"))
    if found.interface:
        pairs.insert(0, ("interface", names.get(found.interface, f"if{found.interface}")))
    return joined(pairs) or None
