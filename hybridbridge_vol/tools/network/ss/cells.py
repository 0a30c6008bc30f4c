"""What the families of `ss` share: columns, states, how an end of a connection is written."""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.procfs.net import CLOSE, LISTEN, SYN_RECV, SYN_SENT, TIME_WAIT, Endpoint
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column

STATES = (
    "UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN",
    "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECV",
)  # fmt: skip
ALL = frozenset(range(1, 13))
CONNECTED = ALL - {LISTEN, CLOSE, TIME_WAIT, SYN_RECV, 12}
"""Shown by default: no listeners, no unconnected sockets, no embryonic or TIME_WAIT ones."""
_STATE_FILTERS = (
    "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "closed", "close-wait",
    "last-ack", "listening", "closing",
)  # fmt: skip
FILTERS: dict[str, frozenset[int]] = {
    **{name: frozenset({number}) for number, name in enumerate(_STATE_FILTERS, 1)},
    "all": ALL,
    "connected": ALL - {LISTEN, CLOSE},
    "synchronized": ALL - {LISTEN, CLOSE, SYN_SENT},
    "bucket": frozenset({TIME_WAIT, SYN_RECV, 12}),
    "big": ALL - {TIME_WAIT, SYN_RECV, 12},
}
TIMERS = ("off", "on", "keepalive", "timewait", "persist")
NETID = Column(
    "NETID",
    "str",
    "tcp, udp, raw, u_str, u_dgr, u_seq (unix), p_raw, p_dgr (packet), nl (netlink), sctp (`- an "
    "association), mptcp, v_str, v_dgr (vsock), xdp, ti_rd, ti_dg, ti_sq, ti_st (TIPC), smc",
)
STATE = Column("STATE", "str", "as ss names it; UNCONN: connected with nobody")
RECV_Q = Column("RECV-Q", "int", "bytes not yet read; of a listening socket: connections not yet accepted")
SEND_Q = Column(
    "SEND-Q",
    "int",
    "bytes not yet acknowledged; of a TCP socket that listens, how many connections may wait, where the "
    "guest's ss could tell",
)
LOCAL = Column("LOCAL", "str", "own address and port; of a unix socket its name and inode")
PEER = Column("PEER", "str", "the other end's")
PROCESS = Column("PROCESS", "str", "every descriptor of every process that has it open: (name,pid,fd)")
TIMER = Column("TIMER", "str", "timer that runs, time left, retransmissions")
UID = Column("UID", "int", "owner's user id")
USER = Column("USER", "str", "owner's name in the guest's own files, #ID where there is none; with -n the id")
INODE = Column("INODE", "int", "of the socket; 0: no process has it open any more")
SK = Column("SK", "hex", "the kernel's address of it, as the guest shows addresses: mostly as a hash")
MORE = Column(
    "MORE", "str", "what has no column: `peers:` that wait to be accepted, `shutdown:`, `locals:` …"
)
INFO = (
    Column("RTO", "int", "TCP: retransmission time-out in ms"),
    Column("ATO", "int", "TCP: time in ms after which data are acknowledged"),
    Column("QACK", "int", "TCP: acknowledgements that will be sent at once"),
    Column("CWND", "int", "TCP: congestion window in segments"),
    Column("SSTHRESH", "int", "TCP: slow start threshold in segments"),
)
TCP = Column("TCP", "str", "TCP: what else it keeps of a connection, in the words of `ss -in`")
MEMORY = Column(
    "MEMORY",
    "str",
    "bytes, in the words of `ss -m`: r for reading, rb at most; t for writing, tb at most; f forward; w "
    "queued; o options; bl backlog; and d packets dropped",
)
Cells = dict[Column, Cell]


class Socket(NamedTuple):
    """A socket of any family."""

    state: int
    inode: int
    cells: Cells
    sources: tuple[Source, ...]


Found = Socket | tuple[Unavailable, tuple[Source, ...]]
"""A socket, or why one or more are missing and where that stands."""


def state_name(state: int) -> str:
    """As ss names it."""
    return STATES[state] if state < len(STATES) else f"UNKNOWN ({state})"


def endpoint_text(end: Endpoint, interface: str = "") -> str:
    """As ss writes it: brackets around IPv6, `*` for any address of it."""
    address = "*" if end.address == "::" else f"[{end.address}]" if ":" in end.address else end.address
    return f"{address}{interface}:{end.port or '*'}"
