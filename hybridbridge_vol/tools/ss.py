"""ss: sockets of every kind with their states, timers and owners, as `ss` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError, ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.net import (
    CLOSE,
    CLOSING,
    ESTABLISHED,
    LISTEN,
    SYN_RECV,
    SYN_SENT,
    TIME_WAIT,
    Endpoint,
    InetSocket,
    parse_inet_socket,
    parse_netlink_socket,
    parse_packet_socket,
    parse_unix_socket,
)
from hybridbridge_vol.procfs.pid import USER_HZ
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.socket_owners import Holder, SocketOwners
from hybridbridge_vol.tools.network.table_lines import table_lines
from hybridbridge_vol.tools.route import families

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
UNIX_STATES = {1: CLOSE, 2: SYN_SENT, 3: ESTABLISHED, 4: CLOSING}
UNIX_NAMES = {1: "u_str", 2: "u_dgr", 5: "u_seq"}
ETH_P_ALL = 3
NETLINK = {
    0: "rtnl", 2: "usersock", 3: "fw", 4: "tcpdiag", 5: "nflog", 6: "xfrm", 7: "selinux", 8: "iscsi",
    9: "audit", 10: "fiblookup", 11: "connector", 12: "nft", 13: "ip6fw", 15: "uevent", 16: "genl",
    18: "scsi-trans", 19: "ecryptfs", 20: "rdma", 21: "crypto", 22: "smc",
}  # fmt: skip
"""Protocols of netlink (include/uapi/linux/netlink.h), by the names that ss gives them."""

NETID = Column(
    "NETID", "str", "tcp, udp, raw, u_str, u_dgr, u_seq (unix), p_raw, p_dgr (packet), nl (netlink)"
)
STATE = Column("STATE", "str", "as ss names it; UNCONN: connected with nobody")
RECV_Q = Column("RECV-Q", "int", "bytes not yet read; of a listening socket: connections not yet accepted")
SEND_Q = Column("SEND-Q", "int", "bytes not yet acknowledged")
LOCAL = Column("LOCAL", "str", "own address and port; of a unix socket its name and inode")
PEER = Column("PEER", "str", "the other end's")
PROCESS = Column("PROCESS", "str", "every descriptor of every process that has it open: (name,pid,fd)")
TIMER = Column("TIMER", "str", "timer that runs, time left, retransmissions")
UID = Column("UID", "int", "owner's user id")
INODE = Column("INODE", "int", "of the socket; 0: no process has it open any more")
SK = Column("SK", "hex", "the kernel's address of it, as the guest shows addresses: mostly as a hash")
INFO = (
    Column("RTO", "int", "TCP: retransmission time-out in ms"),
    Column("ATO", "int", "TCP: time in ms after which data are acknowledged"),
    Column("QACK", "int", "TCP: acknowledgements that will be sent at once"),
    Column("CWND", "int", "TCP: congestion window in segments"),
    Column("SSTHRESH", "int", "TCP: slow start threshold in segments"),
)
Cells = dict[Column, Cell]


class Socket(NamedTuple):
    """A socket of any family."""

    state: int
    inode: int
    cells: Cells


class Ss(Tool):
    name = "ss"
    help = "Sockets of all kinds with states, timers, queues and owners, as ss shows them"
    notes = (
        "Reads the tables of /proc/net, and with -p the descriptors of all processes. Sockets in TIME-WAIT, "
        "and others that their process has closed, belong to no process and are shown without one. Without a "
        "kind all are shown; without -a, -l or --state those that are connected. Addresses and ports are "
        "always numeric. /proc/net shows one network namespace, that of process 1: `--ns-of PID` shows "
        "another's."
    )
    example = "-tuanp --state time-wait fin-wait-2"
    options = (
        Option("tcp", bool, "TCP", short="t"),
        Option("udp", bool, "UDP and UDP-Lite", short="u"),
        Option("raw", bool, "raw sockets and those for pings", short="w"),
        Option("unix", bool, "unix sockets", short="x"),
        Option("packet", bool, "packet sockets", short="0"),
        Option("netlink", bool, "netlink sockets"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
        Option("listening", bool, "only sockets that listen or are connected with nobody", short="l"),
        Option("all", bool, "sockets in every state", short="a"),
        Option("state", str, f"only sockets in these states: {', '.join(FILTERS)}", many=True),
        Option("processes", bool, "also the processes that have a socket open", short="p"),
        Option("timers", bool, "also the timer", short="o"),
        Option("extended", bool, "also user, inode and address", short="e"),
        Option("info", bool, "also what TCP keeps of a connection", short="i"),
        Option("numeric", bool, "numbers for addresses and ports, as is done without it", short="n"),
    )
    columns = (NETID, STATE, RECV_Q, SEND_Q, LOCAL, PEER, PROCESS, TIMER, UID, INODE, SK, *INFO)

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        optional = {
            **dict.fromkeys((PROCESS,), options["processes"]),
            **dict.fromkeys((TIMER,), options["timers"]),
            **dict.fromkeys((UID, INODE, SK), options["extended"]),
            **dict.fromkeys(INFO, options["info"]),
        }
        return tuple(column for column in self.columns if optional.get(column, True))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        states = states_of(options)
        owners = SocketOwners(kernel) if options["processes"] else None
        for path, head, parse in tables(options):
            for item in table_lines(kernel, path, head):
                if isinstance(item, Unavailable):
                    yield Row((item,) * len(columns))
                    continue
                line, source = item
                try:
                    socket = parse(line)
                except ParseError as error:
                    yield Row((why(path, error),) * len(columns), sources=(source,))
                    continue
                if socket.state not in states:
                    continue
                sources: tuple[Source, ...] = (source,)
                if owners:
                    holders = owners.of(socket.inode)
                    socket.cells[PROCESS] = owners.missing(socket.inode) or shown(holders, owners)
                    sources += tuple(holder.source for holder in holders)
                yield Row(tuple(socket.cells.get(column) for column in columns), sources=sources)


def shown(holders: list[Holder], owners: SocketOwners) -> str | None:
    """Descriptors as ss writes them: `("sshd",pid=163,fd=3),…`."""
    return (
        ",".join(f'("{owners.name(holder.pid)}",pid={holder.pid},fd={holder.fd})' for holder in holders)
        or None
    )


def states_of(options: Options) -> frozenset[int]:
    """The states to show. Raises OptionError for a state that has no such name."""
    if options["state"]:
        unknown = [name for name in options["state"] if name not in FILTERS]
        if unknown:
            raise OptionError(f"--state {unknown[0]}: no such state; there are {', '.join(FILTERS)}")
        return frozenset().union(*(FILTERS[name] for name in options["state"]))
    if options["all"]:
        return ALL
    return frozenset({LISTEN, CLOSE}) if options["listening"] else CONNECTED


def tables(options: Options) -> Iterator[tuple[str, int, Callable[[bytes], Socket]]]:
    """The tables that were asked for: path, lines of titles, what makes a socket of a line."""
    kinds = ("netlink", "packet", "unix", "raw", "udp", "tcp")
    chosen = [kind for kind in kinds if options[kind]]
    if not chosen:
        chosen = [*kinds[3:]] if options["inet"] or options["inet6"] else [*kinds]
    inet, inet6 = families(options)
    for kind in chosen:
        if kind in _OTHERS:
            yield f"/proc/net/{kind}", 1, _OTHERS[kind]
            continue
        for name in _INET[kind]:
            if inet:
                yield f"/proc/net/{name}", 1, _inet_parser(name)
            if inet6:
                yield f"/proc/net/{name}6", 1, _inet_parser(name)


def _inet_parser(name: str) -> Callable[[bytes], Socket]:
    return lambda line: _inet(name, parse_inet_socket(line))


def _inet(name: str, socket: InetSocket) -> Socket:
    cells: Cells = {
        NETID: name,
        STATE: STATES[socket.state] if socket.state < len(STATES) else f"UNKNOWN ({socket.state})",
        RECV_Q: socket.rx_queue,
        SEND_Q: socket.tx_queue,
        LOCAL: _endpoint(socket.local),
        PEER: _endpoint(socket.remote),
        UID: socket.uid,
        INODE: socket.inode,
        SK: socket.pointer,
    }
    if socket.timer:
        name_of = TIMERS[socket.timer] if socket.timer < len(TIMERS) else "unknown"
        retries = socket.probes if socket.timer == TIMERS.index("persist") else socket.retransmits
        cells[TIMER] = f"{name_of},{timer_text(socket.expires * 1000 // USER_HZ)},{retries}"
    if name == "tcp" and len(socket.rest) >= len(INFO):
        rto, ato, quick, window, threshold = socket.rest[: len(INFO)]
        tick = 1000 // USER_HZ
        listens = socket.state == LISTEN  # whose last number is the length of its fast open queue
        values = (
            rto * tick,
            ato * tick or None,
            quick >> 1 or None,
            window,
            None if threshold < 0 or listens else threshold,
        )
        cells.update(zip(INFO, values, strict=True))
    return Socket(socket.state, socket.inode, cells)


def _endpoint(end: Endpoint) -> str:
    """As ss writes it: brackets around IPv6, `*` for any address of it."""
    address = "*" if end.address == "::" else f"[{end.address}]" if ":" in end.address else end.address
    return f"{address}:{end.port or '*'}"


def timer_text(milliseconds: int) -> str:
    """The time left as ss writes it (misc/ss.c, print_ms_timer): `1min12sec`, `52sec`, `7.900ms`, `200ms`."""
    minutes, rest = divmod(milliseconds, 60_000)
    seconds, rest = divmod(rest, 1000)
    if minutes:
        rest = 0
        seconds = 0 if minutes > 9 else seconds
    if seconds > 9:
        rest = 0
    return (
        (f"{minutes}min" if minutes else "")
        + (f"{seconds}{'.' if rest else 'sec'}" if seconds else "")
        + (f"{rest:03d}ms" if rest else "")
    )


def _unix(line: bytes) -> Socket:
    socket = parse_unix_socket(line)
    state = LISTEN if socket.listens else UNIX_STATES.get(socket.state, CLOSE)
    cells: Cells = {
        NETID: UNIX_NAMES.get(socket.type, f"u_{socket.type}"),
        STATE: STATES[state],
        RECV_Q: 0,
        SEND_Q: 0,
        LOCAL: f"{socket.path or '*'} {socket.inode}",
        PEER: "* 0",
        INODE: socket.inode,
        SK: socket.pointer,
    }
    return Socket(state, socket.inode, cells)


def _packet(line: bytes) -> Socket:
    socket = parse_packet_socket(line)
    protocol = "*" if socket.protocol == ETH_P_ALL else f"[{socket.protocol}]"
    cells: Cells = {
        NETID: {3: "p_raw", 2: "p_dgr"}.get(socket.type, f"p_{socket.type}"),
        STATE: STATES[CLOSE],
        RECV_Q: socket.rx_queue,
        SEND_Q: 0,
        LOCAL: f"{protocol}:{f'if{socket.interface}' if socket.interface else '*'}",
        PEER: "*",
        UID: socket.uid,
        INODE: socket.inode,
        SK: socket.pointer,
    }
    return Socket(CLOSE, socket.inode, cells)


def _netlink(line: bytes) -> Socket:
    socket = parse_netlink_socket(line)
    port = "kernel" if socket.port == 0 else "*" if socket.port == -1 else str(socket.port)
    cells: Cells = {
        NETID: "nl",
        STATE: STATES[CLOSE],
        RECV_Q: socket.rx_queue,
        SEND_Q: socket.tx_queue,
        LOCAL: f"{NETLINK.get(socket.protocol, socket.protocol)}:{port}",
        PEER: "*",
        INODE: socket.inode,
        SK: socket.pointer,
    }
    return Socket(CLOSE, socket.inode, cells)


_INET = {"raw": ("icmp", "raw"), "udp": ("udp", "udplite"), "tcp": ("tcp",)}
_OTHERS: dict[str, Callable[[bytes], Socket]] = {"unix": _unix, "packet": _packet, "netlink": _netlink}

TOOL = Ss()
