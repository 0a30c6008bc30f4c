"""SCTP as netstat shows it: endpoints and associations, by /proc/net/sctp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sctp import parse_sctp_association, parse_sctp_endpoint
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.network.table_lines import parsed_lines

ENDPOINTS, ASSOCIATIONS = "/proc/net/sctp/eps", "/proc/net/sctp/assocs"
Found = tuple["Sctp | Unavailable", tuple[Source, ...]]


class Sctp(NamedTuple):
    """An endpoint, or an association, which has queues and a peer. An end of it is all its addresses and
    their port. `state`: of the socket (include/net/tcp_states.h)."""

    state: int
    received: int | None
    sent: int | None
    local: str
    foreign: str
    uid: int
    inode: int


def sctp_sockets(
    kernel: GuestKernel, endpoints: bool, associations: bool, inet: bool, inet6: bool
) -> Iterator[Found]:
    """The endpoints, the associations or both, each that has an address of a family that is asked for. None
    where SCTP is not loaded."""
    if endpoints:
        for found, sources in parsed_lines(kernel, ENDPOINTS, parse_sctp_endpoint):
            if isinstance(found, Unavailable):
                yield found, sources
            elif _is_of(found.addresses, inet, inet6):
                local = _end(found.addresses, found.port)
                yield Sctp(found.state, None, None, local, "", found.uid, found.inode), sources
    if associations:
        for each, sources in parsed_lines(kernel, ASSOCIATIONS, parse_sctp_association):
            if isinstance(each, Unavailable):
                yield each, sources
            elif _is_of((*each.locals, *each.peers), inet, inet6):
                local, foreign = _end(each.locals, each.local_port), _end(each.peers, each.remote_port)
                queues = each.rx_queue, each.tx_queue
                yield Sctp(each.socket_state, *queues, local, foreign, each.uid, each.inode), sources


def _is_of(addresses: Sequence[str], inet: bool, inet6: bool) -> bool:
    return not addresses or any(inet6 if ":" in address else inet for address in addresses)


def _end(addresses: Sequence[str], port: int) -> str:
    return f"{','.join(addresses) or '*'}:{port or '*'}"
