"""The formats of /proc/net/sctp: eps, assocs, snmp.

Source: net/sctp/proc.c (sctp_eps_seq_show, sctp_assocs_seq_show), net/sctp/protocol.c and net/sctp/ipv6.c
(sctp_v4_seq_dump_addr, sctp_v6_seq_dump_addr; Linux 5.10 to 6.12). They hold nothing but numbers and
addresses: no process can put text into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.net import address_text, parse_pointer
from hybridbridge_vol.procfs.net_dev import Counter
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source

_PRIMARY = b"*"
"""In front of the address of the primary path."""
_ARROW = b"<->"
"""Between an association's own addresses and its peer's."""
_AFTER_ADDRESSES = b"\t"
_COUNTERS = "Sctp"
"""How the names of its counters begin."""
_ENDPOINT_FIELDS, _ASSOCIATION_FIELDS = 8, 13
"""In front of the addresses."""


class SctpEndpoint(NamedTuple):
    """A line of eps: what a socket is bound to. `state` as in include/net/tcp_states.h."""

    state: int
    port: int
    uid: int
    inode: int
    addresses: tuple[str, ...]


class SctpAssociation(NamedTuple):
    """A line of assocs. `socket_state` as in include/net/tcp_states.h, `state` as in enum sctp_state
    (include/net/sctp/constants.h). `tx_queue`, `rx_queue`: bytes."""

    socket_state: int
    state: int
    tx_queue: int
    rx_queue: int
    uid: int
    inode: int
    local_port: int
    remote_port: int
    locals: tuple[str, ...]
    peers: tuple[str, ...]


def parse_sctp_endpoint(line: bytes) -> SctpEndpoint:
    """`ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS`. Raises ParseError."""
    fields = line.split()
    try:
        parse_pointer(fields[0])
        _style, state, _bucket, port, uid, inode = map(int, fields[2:_ENDPOINT_FIELDS])
        return SctpEndpoint(state, port, uid, inode, _addresses(fields[_ENDPOINT_FIELDS:]))
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/sctp/eps: {line[:60]!r}") from None


def parse_sctp_association(line: bytes) -> SctpAssociation:
    """`ASSOC SOCK STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <-> RADDRS`, a tab
    and what is counted. Raises ParseError."""
    fields = line.partition(_AFTER_ADDRESSES)[0].split()
    try:
        parse_pointer(fields[0])
        numbers = list(map(int, fields[2:_ASSOCIATION_FIELDS]))
        _style, socket_state, state, _bucket, _id, tx_queue, rx_queue, uid, inode, here, there = numbers
        arrow = fields.index(_ARROW)
        return SctpAssociation(
            socket_state, state, tx_queue, rx_queue, uid, inode, here, there,
            _addresses(fields[_ASSOCIATION_FIELDS:arrow]), _addresses(fields[arrow + 1 :]),
        )  # fmt: skip
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/sctp/assocs: {line[:60]!r}") from None


def parse_sctp_snmp(path: str, lines: Iterator[tuple[bytes, Source]]) -> Iterator[Counter]:
    """/proc/net/sctp/snmp: `SctpCurrEstab 1`. Raises ParseError."""
    for line, source in lines:
        try:
            name, value = map(text, line.split())
            yield Counter(_COUNTERS, name.removeprefix(_COUNTERS), int(value), source)
        except ValueError:
            raise ParseError(f"not in the form of {path}: {line[:60]!r}") from None


def _addresses(fields: list[bytes]) -> tuple[str, ...]:
    """`127.0.0.1` (%pI4) and `0000:…:0001` (%pI6), as inet_ntop(3) writes them. Raises ValueError."""
    return tuple(_address(field.removeprefix(_PRIMARY).decode("ascii")) for field in fields)


def _address(field: str) -> str:
    if ":" in field:
        raw = bytes.fromhex("".join(group.rjust(4, "0") for group in field.split(":")))
        if len(raw) != 16:
            raise ValueError
        return address_text(raw)
    return address_text(bytes(map(int, field.split("."))))
